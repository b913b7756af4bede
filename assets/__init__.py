"""Sample pages, style sheet and recorded runs; a package so that they are installed with the others."""
