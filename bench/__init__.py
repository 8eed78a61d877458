"""The benchmark: Fairlead and the model servers people use, side by side on this machine."""
