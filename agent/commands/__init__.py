"""What users can ask for, one noun per file."""
