"""The guard: load, save and stamp adapters so that nothing goes wrong in silence. Works on live models."""
