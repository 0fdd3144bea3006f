"""TorchPlan: a plan around a PyTorch network. The researcher writes the network, the loss and the optimiser.

A site's examples are kept in memory as two tensors, or made again for each batch. A round is ``epochs`` passes over
shuffled batches; every random number comes from the round's seed, so that a round repeated after a crash gives the same
weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, TypeAlias, TypeVar

import numpy as np
import torch

from archipel.data import SubjectSet
from archipel.plans.base import Array, Context, Model, Plan, TrainingResult, derive_seed
from archipel.plans.devices import Computing
from archipel.plans.examples import Examples, InMemory, OnDemand
from archipel.plans.memory import keep_freed_memory
from archipel.plans.network_weights import export_model, freeze, import_model, train_others
from archipel.plans.optimiser_state import export_state, restore_state
from archipel.plans.partition import parts_of
from archipel.plans.seeding import seed_torch
from archipel.plans.training_steps import LossMean, train_on
from archipel.plans.transforms import Transform, seed_transforms, transformed
from archipel.vocabulary import BadInput, ErrorCode, MetricSpec, MetricSum, Thing

Tensor: TypeAlias = torch.Tensor
T = TypeVar("T")
_SMALL = 16 << 20
"""Bytes of a network that is kept to measure the next model with."""


class TorchPlan(Plan):
    """Base of plans that train a ``torch.nn.Module``.

    Write ``build_model``, ``build_optimiser``, ``loss`` and, unless a subclass of this class has it, ``examples``.
    A hyper-parameter named ``batch_size`` or ``epochs`` takes the place of the class attribute of that name.
    ``in_memory`` False is for datasets larger than memory: ``examples`` is then called with the subjects of one batch
    at a time, in every epoch, and must make each example from its subject alone. ``held_bytes`` bounds the inputs and
    outputs that wait while the models of an ensemble are gone through.

    The network computes on ``context.device``. ``autocast`` (bfloat16 or float16), ``channels_last``, ``compiled`` and
    ``deterministic`` say how, on every device; ``accumulation`` is the number of batches to a step of the optimiser,
    also as a hyper-parameter. ``examples``, ``transforms`` and ``augment`` work on the processor, ``loss`` is given
    tensors of the device, ``measure`` and ``predictions`` tensors of the processor.

    >>> from archipel import DataNeeds
    >>> class LinearPlan(TorchPlan):
    ...     needs = DataNeeds(kind="arrays")
    ...
    ...     def build_model(self):
    ...         return torch.nn.Linear(3, 1)
    >>> {name: array.shape for name, array in LinearPlan().initial_model(seed=0).items()}
    {'weight': (1, 3), 'bias': (1,)}
    """

    batch_size: ClassVar[int] = 4
    epochs: ClassVar[int] = 1
    in_memory: ClassVar[bool] = True
    held_bytes: ClassVar[int] = 64 << 20
    autocast: ClassVar[torch.dtype | None] = None
    channels_last: ClassVar[bool] = False
    compiled: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    accumulation: ClassVar[int] = 1
    validation: ClassVar[tuple[MetricSpec, ...]] = (MetricSpec(name="validation_loss", better="lower"),)

    _kept_network: tuple[Computing, torch.nn.Module] | None = None

    # What a researcher writes ---------------------------------------------------------------------------------

    def build_model(self) -> torch.nn.Module:
        """The network, with fresh random weights."""
        raise NotImplementedError("a TorchPlan must define build_model()")

    def build_optimiser(self, network: torch.nn.Module, context: Context) -> torch.optim.Optimizer:
        """The optimiser of this round. Its learning rate may follow ``context.round`` of ``context.rounds``."""
        raise NotImplementedError("a TorchPlan must define build_optimiser(network, context)")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, a tensor of no dimension.

        A weighted loss is divided by the batch's own weights first; else batches of heavy examples count more often.
        """
        raise NotImplementedError("a TorchPlan must define loss(outputs, targets)")

    def examples(self, subjects: SubjectSet) -> tuple[Tensor, Tensor]:
        """Inputs and targets of these subjects, first dimension the subjects; here: the rows of a table."""
        x, y, _ = subjects.table()
        if y is None:
            cause = "names no classes in its needs, and the samples have no y of their own"
            remedy = 'name them: target=ColumnNeed(name="class", categories=("normal", "pneumonia"))'
            raise BadInput(Thing("plan", type(self).__name__), cause, remedy, code=ErrorCode.BAD_PLAN)
        return torch.from_numpy(np.asarray(x, dtype=np.float32)), torch.from_numpy(np.asarray(y))

    def transforms(self) -> Sequence[Transform]:
        """Random transforms of one example, ``{"image": input, "label": target}``: MONAI's dictionary transforms or
        any callable. Those with ``set_random_state`` get a seed of the round; one may give a list of examples, such
        as several crops."""
        return ()

    def order(self, generator: torch.Generator) -> Tensor:
        """Places int64 ``[n]`` of the training examples in the order of one epoch, drawn from ``generator`` only;
        here: each of ``len(self.training)`` once. A place may come several times or not at all."""
        return torch.randperm(len(self.training), generator=generator)

    def before_step(self, network: torch.nn.Module, context: Context) -> None:
        """Change the gradients of a batch before the optimiser uses them, for example clip them; here: leave them."""

    def augment(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Change a whole batch at random, drawing from ``generator`` only; here: leave it as it is."""
        return inputs, targets

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, MetricSum]:
        """Validation metrics of a batch; here: its loss. ``outputs`` are a network's outputs also for an ensemble."""
        return {
            "validation_loss": MetricSum(total=float(self.loss(outputs, targets)) * len(targets), weight=len(targets))
        }

    def activate(self, outputs: Tensor) -> Tensor:
        """What an ensemble averages, from a network's outputs, for example probabilities; here: the outputs themselves.

        A plan that defines this also defines ``undo_activation``.
        """
        return outputs

    def undo_activation(self, averaged: Tensor) -> Tensor:
        """Outputs that ``activate`` turns into these averages, so that ``loss`` and ``measure`` get what they expect of
        an ensemble too: ``averaged.clamp_min(1e-30).log()`` after softmax, ``averaged.logit(1e-6)`` after sigmoid.
        """
        return averaged

    def predictions(self, outputs: Tensor) -> Mapping[str, Tensor | Array]:
        """What ``archipel predict`` writes of a batch of outputs: columns by name, each ``[N, ...]``.

        Here it is what ``activate`` gives. With as many outputs as the target has categories it is one column for each,
        ``class=normal``, and the category with the largest output in a column of the target's name; else the column
        ``output``, or ``output_0``, ``output_1`` and so on. A plan that scales its target defines this, so that the
        column has the target's name and unit.
        """
        given, target = self.activate(outputs), self.needs.target
        if given.ndim > 2:
            return {"output": given}
        columns = given.reshape(len(given), -1).unbind(1)
        if target is not None and target.is_category and len(columns) == len(target.categories):
            chosen = np.asarray(target.categories)[given.argmax(1).numpy()]
            each = zip(target.categories, columns, strict=True)
            return {target.name: chosen, **{f"{target.name}={name}": column for name, column in each}}
        return {"output" if len(columns) == 1 else f"output_{place}": column for place, column in enumerate(columns)}

    # What the runtime calls -----------------------------------------------------------------------------------

    def initial_model(self, seed: int) -> Model:
        """Fresh weights and buffers, the same for the same seed."""
        return export_model(self._fresh_network(seed))

    def prepare(self, training: SubjectSet, validation: SubjectSet, context: Context) -> None:
        """Build the network, and read all examples into memory unless ``in_memory`` says otherwise."""
        keep_freed_memory()
        self._computing_in(context)
        self.network = self._computing.place(self._fresh_network(0))
        self._restored: Model = {}
        self._optimiser: torch.optim.Optimizer | None = None
        self._transforms = tuple(self.transforms())
        self._training_samples = len(training)
        kept = InMemory if self.in_memory else OnDemand
        self.training: Examples = kept(self.examples, training)
        self.held_out: Examples | None = kept(self.examples, validation) if len(validation) else None

    def train(self, model: Model, context: Context) -> TrainingResult:
        """``epochs`` passes over the training examples in shuffled batches; ``loss`` is their mean over all passes.

        What ``partition`` freezes takes no gradients, and a module all of whose tensors are frozen is in evaluation
        mode. Raises ArchipelError (``not-finite``) in the step in which the loss turns NaN, on a GPU within 64 steps.
        """
        parts = parts_of(self, model)
        frozen = parts.frozen
        computing = self._computing_in(context)
        seed_torch(context.seed)
        import_model(self.network, model)
        freeze(self.network, parts)
        optimiser = self._optimiser = self.build_optimiser(self.network, context)
        if self._restored:
            restore_state(optimiser, self._restored)
        train_others(self.network, frozen)
        losses = LossMean(context.round, computing)
        with computing.algorithms():
            train_on(
                self._batches(context),
                self.network,
                optimiser,
                self.loss,
                lambda: self.before_step(self.network, context),
                computing,
                self._setting("accumulation", context),
                losses,
            )
        export_model(self.network, into=model, frozen=frozen)
        subjects = self._training_samples
        return TrainingResult({"loss": MetricSum(total=losses.value() * subjects, weight=subjects)})

    def evaluate(self, models: Sequence[Mapping[str, Array]], context: Context) -> dict[str, MetricSum]:
        """The sums of ``measure`` over all validation batches, in evaluation mode."""
        if self.held_out is None:
            return {}
        computing = self._computing_in(context)
        sums: dict[str, MetricSum] = {}
        groups = torch.arange(len(self.held_out)).split(self._setting("batch_size", context))
        with torch.inference_mode(), computing.algorithms():
            for outputs, targets in self.averaged(models, self.held_out.batches(groups)):
                for name, value in self.measure(outputs.cpu(), targets).items():
                    sums[name] = sums[name] + value if name in sums else value
        return sums

    def predict(
        self, models: Sequence[Mapping[str, Array]], subjects: SubjectSet, context: Context
    ) -> Mapping[str, Array]:
        """The columns of ``predictions`` over all subjects, in evaluation mode."""
        computing = self._computing_in(context)
        kept = InMemory if self.in_memory else OnDemand
        groups = torch.arange(len(subjects)).split(self._setting("batch_size", context))
        found: dict[str, list[Array]] = {}
        with torch.inference_mode(), computing.algorithms():
            for outputs, _ in self.averaged(models, kept(self.examples, subjects).batches(groups)):
                for name, values in self.predictions(outputs.cpu()).items():
                    found.setdefault(name, []).append(np.asarray(values))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def state(self) -> Model:
        """The optimiser's state after the last round."""
        return export_state(self._optimiser) if self._optimiser is not None else {}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Continue the optimiser from this state in the next round."""
        self._restored = dict(state)

    # Parts of them, also used to predict ----------------------------------------------------------------------

    def networks(self, models: Sequence[Mapping[str, Array]]) -> list[torch.nn.Module]:
        """One network in evaluation mode per model. Raises BadInput when a model does not fit the network."""
        made = []
        for model in models:
            network = self._fresh_network(0)
            import_model(network, model)
            made.append(self._computing.place(network).eval())
        return made

    def ensemble(self, networks: Sequence[torch.nn.Module], inputs: Tensor) -> Tensor:
        """The outputs of one network, or of an ensemble: those that activate to the mean of its networks' activated."""
        compute = self._computing.outputs
        if len(networks) == 1:
            return compute(networks[0], inputs)
        total = self.activate(compute(networks[0], inputs))
        for network in networks[1:]:
            total = total + self.activate(compute(network, inputs))
        return self.undo_activation(total / len(networks))

    def averaged(
        self, models: Sequence[Mapping[str, Array]], batches: Iterable[tuple[Tensor, T]]
    ) -> Iterator[tuple[Tensor, T]]:
        """For each batch ``(inputs, what belongs to them)`` the outputs of one network or, as ``ensemble``, of several.

        One network is in memory at a time, whatever the number of models. Of an ensemble as many batches wait together
        as ``held_bytes`` allows, and all models are read once for them. The sum is made in the models' order. Outputs
        are on the device that the plan computes on.
        """
        compute = self._computing.outputs
        if len(models) == 1:
            network = self._measuring_network(models[0])
            for inputs, belonging in batches:
                yield compute(network, inputs), belonging
            return
        remaining = iter(batches)
        for first in remaining:
            network = self._network_of(models[0])
            waiting: list[tuple[Tensor, Tensor, T]] = []
            size = 0
            for inputs, belonging in itertools.chain([first], remaining):
                outputs = self.activate(compute(network, inputs))
                waiting.append((inputs, outputs, belonging))
                size += inputs.nbytes + outputs.nbytes
                if size >= self.held_bytes:
                    break
            for model in models[1:]:
                network = self._network_of(model)
                for place, (inputs, total, belonging) in enumerate(waiting):
                    waiting[place] = inputs, total + self.activate(compute(network, inputs)), belonging
            for _, total, belonging in waiting:
                yield self.undo_activation(total / len(models)), belonging

    @property
    def _computing(self) -> Computing:
        return self.__dict__.get("_computes") or self._computing_on("cpu")

    def _computing_on(self, device: str) -> Computing:
        return Computing.on(device, self.autocast, self.channels_last, self.compiled, self.deterministic)

    def _computing_in(self, context: Context) -> Computing:
        """How this plan computes where the context says, with its threads."""
        if torch.get_num_threads() != context.threads:
            torch.set_num_threads(context.threads)
        self._computes = self._computing_on(context.device)
        return self._computes

    def _network_of(self, model: Mapping[str, Array]) -> torch.nn.Module:
        # Its parameters are ordinary tensors also where the caller only infers.
        with torch.inference_mode(False):
            [network] = self.networks([model])
        return network

    def _measuring_network(self, model: Mapping[str, Array]) -> torch.nn.Module:
        """The model's network. A small one is kept for the next model: to build it takes longer than to use it."""
        computing = self._computing
        if self._kept_network is not None and self._kept_network[0] == computing:
            network = self._kept_network[1]
            import_model(network, model)
            return network
        network = self._network_of(model)
        if sum(tensor.nbytes for tensor in network.state_dict().values()) <= _SMALL:
            self._kept_network = computing, network
        return network

    def _fresh_network(self, seed: int) -> torch.nn.Module:
        # Only the generator that is set back: ``torch.manual_seed`` would leave those of accelerators changed.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.build_model()

    def _setting(self, name: str, context: Context) -> int:
        return int(context.arguments.get(name, getattr(self, name)))

    def _batches(self, context: Context) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(derive_seed(context.seed, "batches"))
        seed_transforms(self._transforms, context.seed)
        size = self._setting("batch_size", context)
        for _ in range(self._setting("epochs", context)):
            chosen = self._checked(self.order(generator)).split(size)
            for inputs, targets in self.training.batches(chosen):
                yield self.augment(*transformed(self._transforms, inputs, targets), generator)

    def _checked(self, order: Tensor) -> Tensor:
        count = len(self.training)
        if order.dtype is torch.int64 and order.dim() == 1 and len(order) and 0 <= order.min() <= order.max() < count:
            return order
        raise BadInput(
            Thing("plan", type(self).__name__),
            f"order() gives {order.dtype} {list(order.shape)}, not int64 [n] of places from 0 to {count - 1}",
            "give the places of training examples, at least one",
            code=ErrorCode.BAD_PLAN,
        )
