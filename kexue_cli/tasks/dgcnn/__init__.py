"""Task dgcnn: reading comprehension with dilated gated convolutions."""
