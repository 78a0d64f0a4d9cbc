"""Words from unsegmented text by minimum entropy (kexue.fm 5448, 5476, 6920)."""
