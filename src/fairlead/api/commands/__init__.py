"""The commands: what each does, one module per group; loaded only when a command runs."""
