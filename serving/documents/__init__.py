"""Files that become pages: images, PDF, zip."""
