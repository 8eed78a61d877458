"""Simulations behind every error that a release states: Fairlead and others on the same traffic."""
