"""llama.cpp as an engine: the daemon's side (``engine``) and a worker process that alone loads the library.

One step of the worker: messages in -> ``scheduler.schedule()`` -> ``runner.run(plan)`` -> ``scheduler.update()`` ->
messages out. Only ``runner`` imports llama_cpp; scheduler, sequence and slots are pure.
"""
