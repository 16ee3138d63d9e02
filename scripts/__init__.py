"""What makes Pushboat easy to try, to check and to install."""
