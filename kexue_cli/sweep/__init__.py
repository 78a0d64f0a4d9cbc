"""Many runs from one command: `kexue-run -m …`, isolated, recorded, resumable."""
