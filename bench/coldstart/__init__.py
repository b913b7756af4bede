"""Cold starts: a plan of requests, what each answer proves, result files and their figures."""
