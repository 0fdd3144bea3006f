"""Simulate a job of the tiny plan in a process of its own; prints its models.

``simulate_here.py JOB PLAN DATA FOLDER [MODEL]``.
``MODEL`` is the file of the initial model, by default that which the plan makes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from archipel.plans import load_packaged, package
from archipel.plans.partition import parts_of
from archipel.simulation import scanned_site, simulate
from archipel.tensors import encode
from archipel.vocabulary import Job, TaskKind

job_file, plan, data, folder, *given = map(Path, sys.argv[1:])
job = Job.model_validate_json(job_file.read_text())
sites = [scanned_site(site, data / site, job.needs) for site in job.sites]
packaged = package(plan, job.plan.class_name)
loaded = load_packaged(packaged)
sent, frozen, local = parts_of(loaded, loaded.initial_model(job.seed))
initial = given[0].read_bytes() if given else encode(sent)
rest = {name: encode(part) for name, part in (("frozen", frozen), ("local", local)) if part}
store = asyncio.run(simulate(job, packaged, initial, sites, folder, **rest))
found = {"last": store.model, "local": store.local_models, "ensemble": None}
for record in store.records:
    if record.stage.about == "ensemble":
        found["ensemble"] = record.validation["accuracy"].mean()
    if record.stage.kind is TaskKind.EVALUATE and not record.stage.about:
        found["validation"] = {name: one.model_dump(mode="json") for name, one in record.validation.items()}
print(json.dumps({**found, "rounds": store.progress().rounds_done, "reason": store.reason}))
