"""Engines that are HTTP servers: vLLM, vLLM-Ascend, MindIE, and any server somebody else runs.

The box renders and counts the prompt itself and sends token ids; it takes token ids back. Why not messages to
``/v1/chat/completions``: the server would render them with a template of its own, read a client's ``<｜User｜>`` as a
real turn, and count tokens where the box cannot see it. What the box promises (exact counts before anything runs, a
budget for the thought, a landing in the answer, a grammar that binds the answer alone, one way of setting reasoning and
tools apart) is promised on tokens; with token ids both ways it holds for every engine, by the same code.
"""
