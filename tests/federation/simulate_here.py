"""Simulate a job of the tiny plan in a process of its own: ``simulate_here.py JOB PLAN DATA FOLDER`` prints models."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from archipel.plans import load_packaged, package
from archipel.plans.partition import parts_of
from archipel.simulation import scanned_site, simulate
from archipel.tensors import encode
from archipel.vocabulary import Job

job_file, plan, data, folder = map(Path, sys.argv[1:])
job = Job.model_validate_json(job_file.read_text())
sites = [scanned_site(site, data / site, job.needs) for site in job.sites]
packaged = package(plan, job.plan.class_name)
loaded = load_packaged(packaged)
sent, frozen = parts_of(loaded, loaded.initial_model(job.seed))
rest = encode(frozen) if frozen else None
store = asyncio.run(simulate(job, packaged, encode(sent), sites, folder, frozen=rest))
[ensemble] = [record.validation["accuracy"] for record in store.records if record.stage.about == "ensemble"]
print(json.dumps({"last": store.model, "local": store.local_models, "ensemble": ensemble.mean()}))
