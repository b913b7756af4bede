"""Access to the page: the password, uploads, the origin of requests, and the owners of collections."""
