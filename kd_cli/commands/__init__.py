"""What each command does, from a checked configuration to a typed result. A room for each command."""
