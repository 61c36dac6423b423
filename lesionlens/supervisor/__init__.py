"""`lesionlens run`: every process of the service on one machine, without containers.

command   options, one clear sentence for what keeps it from starting
plan      which programs, with which command lines and environment (the composition root)
program   what is known about one program; `child` keeps one running; `bring_up` starts and stops them in order
postgres, valkey   the embedded servers, out of wheels, in the data folder
folder_lock        one supervisor a folder      guard   nothing outlives the supervisor, however it ends
readiness, sample  is it up, and does it answer
"""

from lesionlens.supervisor.command import run_command

__all__ = ["run_command"]
