"""GPT2_ML and GPT-2: load, generate, evaluate, train, fine-tune (kexue.fm/archives/7292)."""
