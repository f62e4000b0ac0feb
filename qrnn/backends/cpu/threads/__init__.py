"""The threads of the CPU backend: helper threads, which compiled code hands calls to, and a pool for work that Python hands out.

A thread team is the thread that runs a sequence, its worker 0, and helper threads, its further workers. Each worker computes some of the hidden
units, and all of them meet at a barrier once in every time step. Several sequences of one length are lists of calls that have nothing in
common: the thread that runs them begins with the first, and helper threads take the others. A single step is offered to helper threads that
are awake.

- `pool` counts the cores and has the thread pool.
- `team` has the helper threads, and the calls that are made with them. It imports no compiler.
- `team_loops` has the compiled code by which threads hand each other calls and meet at the barrier.
- `placement` lets a helper thread wake up on another core than the thread that wakes it.
- `atomics` has the instructions that this code is made of.

``Tuning(thread_teams=False)`` turns helper threads off; `team.most_workers` is the one place that asks for it.
"""
