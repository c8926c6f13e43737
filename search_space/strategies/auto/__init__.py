"""The default strategy: few numbers, few documents each, more of both where they pay."""
