"""The demonstration: a mesh on this machine with browser tabs, native workers and a liar, doing real work.

`python -m shardy_client.demo`; the pieces are `words` (data and expected answer), `children` (processes), `show`
(what is printed), and `liar`, a worker that cheats.
"""
