"""What knows nothing of the rest of the package."""
