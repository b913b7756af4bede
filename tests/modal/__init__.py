"""Modal apps without an account: the real `modal` client and container entrypoint against a small cloud in a thread.

What is real: the client, its command line, its checks, the container's process and the order of its hooks. What is not:
images are not built, memory is not snapshotted (a process that waits at the checkpoint stands for the snapshot), and no
time that is seen here says anything about Modal's.

Not here, and refused with a sentence or answered with nothing: Servers, maps over inputs, files above 4 MiB, files of
volumes by the command line, time limits of single calls, buffer containers, custom domains, websockets. Containers
share this machine's ports.
"""
