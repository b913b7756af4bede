"""HTTP for all servers: who may ask, the types of requests and answers, running a server."""
