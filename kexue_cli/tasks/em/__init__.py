"""Task em: from maximum likelihood to EM, for mixtures and topics."""
