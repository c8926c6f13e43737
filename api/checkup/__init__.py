"""`ropewalk doctor`: what is installed, reachable and usable on this machine, a sentence each, with what to do."""
