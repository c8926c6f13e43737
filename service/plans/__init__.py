"""What a job will cost, before it starts: passes, tokens, operations, memory, hours, money: a row per kind of work."""
