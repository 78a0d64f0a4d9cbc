"""The second command, `kexue`: everything about finished runs and about data sets."""
