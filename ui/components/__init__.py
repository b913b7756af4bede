"""Parts of the page that several of its tabs are made of."""
