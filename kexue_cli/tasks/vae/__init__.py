"""Variational auto-encoders: the three posts of kexue.fm as experiments."""
