"""The threads of the CPU backend: a pool for work that is independent, and thread teams, which share one sequence.

A thread team is the thread that runs a sequence, its worker 0, and helper threads, its further workers. Each worker computes some of the hidden
units, and all of them meet at a barrier once in every time step.

- `pool` counts the cores and has the thread pool.
- `team` has the helper threads, and the calls that a team makes. It imports no compiler.
- `team_loops` has the compiled code by which workers hand each other calls and meet at the barrier.
- `atomics` has the instructions that this code is made of.

``Tuning(thread_teams=False)`` turns thread teams off; `team.most_workers` is the one place that asks for it.
"""
