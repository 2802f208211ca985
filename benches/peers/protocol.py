"""The protocol of `benches/src/protocol.rs`: one JSON object a line, on standard input and output."""

import json
import sys
import time


def offer(id, rule, name, max_tensors=None):
    """An optimizer: how it is asked for, which of ours does the same, what results call it."""
    fields = {"id": id, "rule": rule, "name": name}
    return fields if max_tensors is None else {**fields, "max_tensors": max_tensors}


def serve(name, contestants, open_contestant):
    """Answers requests until the input ends.

    `open_contestant(id, tensors, threads)` returns a function that runs so many steps and returns when they are done.
    """
    output = sys.stdout
    # Whatever libraries print must not get between the answers.
    sys.stdout = sys.stderr
    subjects = {}
    opened = 0

    def send(message):
        print(json.dumps(message), file=output, flush=True)

    def answer(request):
        nonlocal opened
        if "open" in request:
            fields = request["open"]
            steps = open_contestant(fields["contestant"], fields["tensors"], fields["threads"])
            opened += 1
            subjects[opened] = steps
            return {"opened": {"subject": opened}}
        if "run" in request:
            run, steps = subjects[request["run"]["subject"]], request["run"]["steps"]
            start = time.perf_counter_ns()
            run(steps)
            return {"ran": {"ns": time.perf_counter_ns() - start}}
        subjects.pop(request["close"]["subject"], None)
        return {"closed": {}}

    send({"hello": {"name": name, "contestants": contestants}})
    for line in sys.stdin:
        try:
            send(answer(json.loads(line)))
        except Exception as error:  # Whatever fails is answered: the suite goes on without this contestant.
            send({"error": {"message": f"{type(error).__name__}: {error}".splitlines()[0]}})
