"""The checks of a submitted job before the server keeps it and asks the sites."""

from __future__ import annotations

import mmap

from archipel.governance import canonical
from archipel.plans import declared
from archipel.plans.files import LARGEST_PLAN
from archipel.rounds import check_releases
from archipel.server.membership import MemberRegistry
from archipel.storage import BlobStore
from archipel.strategies import check_strategy
from archipel.tensors import check_header, tensor_file_size
from archipel.vocabulary import BadInput, Job, TensorSchema, Thing
from archipel.vocabulary.bounds import LONGEST_JOB


def check_submitted(job: Job, blobs: BlobStore, registry: MemberRegistry, server_key: str) -> None:
    """Raise BadInput unless this server can run the job: it is for this server, its sites are enrolled, and the plan
    and the model that it names are here and fit it.
    """
    thing = Thing("job", job.experiment)
    if (length := len(canonical(job))) > LONGEST_JOB:
        cause = f"is a document of {length >> 20} MiB; at most {LONGEST_JOB >> 20} MiB are accepted"
        raise BadInput(
            thing, cause, "use fewer tensors and shorter texts", values={"bytes": length, "limit": LONGEST_JOB}
        )
    if job.server_key != server_key:
        raise BadInput(thing, "names another server's key", "make the job with this server's connection")
    known = {site.site: site.identity_key for site in registry.sites()}
    for entry in job.roster:
        if entry.site not in known:
            raise BadInput(
                thing,
                f"names site {entry.site}, which is not enrolled",
                "choose enrolled sites",
                values={"site": entry.site},
            )
        if known[entry.site] != entry.identity_key:
            raise BadInput(
                thing,
                f"has another identity key for {entry.site}",
                "make the job again",
                values={"site": entry.site},
            )
    if sum(map(blobs.size, job.plan.files.values())) > LARGEST_PLAN:
        cause = f"has a plan of more than {LARGEST_PLAN} bytes"
        raise BadInput(thing, cause, "keep data out of the plan's source", values={"limit": LARGEST_PLAN})
    declared(job.plan, ((path, _contents(blobs, blob)) for path, blob in job.plan.files.items()))
    _check_tensor_file(job, blobs, "initial model", job.initial_model, job.tensors)
    if job.frozen is not None:
        _check_tensor_file(job, blobs, "frozen part", job.frozen.blob, job.frozen.tensors)
    if job.local is not None:
        _check_tensor_file(job, blobs, "local part", job.local.blob, job.local.tensors)
    check_strategy(job)
    check_releases(job)


def _check_tensor_file(job: Job, blobs: BlobStore, what: str, blob: str, tensors: TensorSchema) -> None:
    thing, remedy = Thing("job", job.experiment), f"make the job and its {what} from the same plan"
    if (size := blobs.size(blob)) != (needed := tensor_file_size(tensors)):
        raise BadInput(
            thing,
            f"its {what} has {size} bytes, its tensors make {needed}",
            remedy,
            values={"bytes": size, "needed": needed},
        )
    with blobs.local(blob) as path, path.open("rb") as file:
        # Not closed here, because an error still refers to it; it is freed with the last view.
        tensor_file = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
    try:
        check_header(tensors, tensor_file)
    except BadInput as error:
        raise BadInput(thing, f"its {what} is of other tensors ({error.cause})", remedy) from error


def _contents(blobs: BlobStore, blob: str) -> bytes:
    with blobs.open(blob) as file:
        return file.read()
