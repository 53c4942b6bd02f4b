"""One step of semi-supervised training with a generalist that is clicked, against the released way to take it.

    python benchmarks/semisam_step.py [--csv FILE] [--device cuda] [--full True]

Ours is `MeanTeacherTrainer` with a `PromptedGeneralist`. The naive step is written afresh after the released algorithm
of SemiSAM: in every step it reads the generalist's checkpoint and builds the network, embeds every volume, labelled
ones too, anew for every click, decodes one volume at a time, finds each click by a distance transform of the full
volume, runs 8 passes of the teacher that nobody uses, and averages the teacher's weights one by one. What is wrong in
the released code is not repeated: clicks come from the specialist's prediction, and pseudo-masks of labelled volumes
are thrown away. Both use our networks, with the same weights, in float32.

Volumes are balls in noise. Student and generalist have learned for some seconds to find them: predictions, and with
them the regions to be clicked, have sizes as in training.

- Answers: one step of both from the same weights with the same random numbers. Rounding may move a voxel across a
  threshold and with it a click; so the naive step finds its own clicks, but then clicks where ours did. Pseudo-masks,
  loss, and weights of student and teacher after the step must agree to `TOLERANCE`; first clicks must be the same, and
  later ones but for a few.
- Times are the best of several steps, turn by turn, batches already in memory.
- Memory is the peak of a process of its own that takes one step, weights included: on the CPU resident memory beyond
  what Python and its imports take (Linux only), on the GPU what PyTorch allocated.
"""

from __future__ import annotations

import copy
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fire
import numpy as np
import torch
from common import report, seconds
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from weakmedsam_ext.engines import MeanTeacherTrainer, PromptedGeneralist
from weakmedsam_ext.networks import MeanTeacher, build_network
from weakmedsam_ext.transforms import simulate_clicks

SPEED_TARGET, TOLERANCE = 3.0, 1e-4
SAME_CLICKS = 0.8  # share at least
CONSISTENCY, GENERALIST = 100.0, 1.0  # weights of the losses: large, so that errors in them show
UNUSED_PASSES = 8
LOSS = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)


@dataclass(frozen=True)
class Setting:
    """What both versions start from."""

    backbone: str
    img_size: int
    patch: int
    labelled: int
    unlabelled: int
    clicks: int
    device: str
    folder: str

    @property
    def generalist_file(self) -> Path:
        """Checkpoint of the generalist."""
        return Path(self.folder) / "generalist.pt"

    @property
    def student_file(self) -> Path:
        """Weights with which the specialist starts."""
        return Path(self.folder) / "student.pt"

    def prepare(self) -> None:
        """Write both files."""
        torch.manual_seed(0)
        generalist = build_network(self.backbone, img_size=self.img_size)
        fit_generalist(generalist)
        torch.save(generalist.state_dict(), self.generalist_file)
        student = unet()
        fit_student(student)
        torch.save(student.state_dict(), self.student_file)

    def read_generalist(self) -> nn.Module:
        """Build the generalist from its checkpoint."""
        return build_network(self.backbone, self.generalist_file, img_size=self.img_size).to(self.device).eval()

    def read_student(self) -> nn.Module:
        """Build the specialist."""
        student = unet()
        student.load_state_dict(torch.load(self.student_file, weights_only=True))
        return student.to(self.device)

    def batch(self) -> dict[str, Tensor]:
        """Images and labels of the first."""
        torch.manual_seed(1)
        image, mask = volumes(self.labelled + self.unlabelled, self.patch)
        return {"image": image.to(self.device), "label": mask[: self.labelled].to(self.device)}


def unet() -> nn.Module:
    """A small specialist without dropout or running averages, so that both versions see the same."""
    return UNet(3, 1, 2, (8, 16, 32, 64), (2, 2, 2), num_res_units=1)


def volumes(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Bright balls in noise, and their masks; distances in half sides."""
    axis = torch.linspace(-1, 1, side)
    away = [(axis - middle).square() for middle in (torch.rand(3, count, 1) - 0.5)]
    squared = away[0][:, :, None, None] + away[1][:, None, :, None] + away[2][:, None, None, :]
    mask = (squared.sqrt() < 0.3 + 0.3 * torch.rand(count, 1, 1, 1)).unsqueeze(1)
    return mask + 0.2 * torch.randn(mask.shape), mask.long()


def fit_student(student: nn.Module, num_steps: int = 60) -> None:
    optimizer = torch.optim.Adam(student.parameters(), 0.01)
    for _ in range(num_steps):
        image, mask = volumes(4, 32)
        optimizer.zero_grad()
        LOSS(student(image), mask).backward()
        optimizer.step()


def fit_generalist(network: nn.Module, num_steps: int = 80, num_clicks: int = 4) -> None:
    """Teach all but the image encoder to find a ball by a few clicks, one after the other."""
    image, mask = volumes(4, network.img_size)
    with torch.no_grad():
        embedding = network.encode(image)
    wanted = F.interpolate(mask.float(), tuple(4 * size for size in embedding.shape[2:]), mode="area")
    rest = [parameter for name, parameter in network.named_parameters() if not name.startswith("image_encoder")]
    optimizer = torch.optim.Adam(rest, 5e-4)
    mask = mask[:, 0].bool()
    for step in range(num_steps):
        if step % num_clicks == 0:
            low, answered = None, torch.zeros_like(mask)
        points, labels = simulate_clicks(answered, mask)
        answer, _ = network.decode(embedding, points.unsqueeze(1), labels.unsqueeze(1), mask_logits=low)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(answer, wanted).backward()
        optimizer.step()
        low = answer.detach()
        answered = F.interpolate(low, mask.shape[1:], mode="trilinear")[:, 0] > 0


def sgd(student: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)


class Ours:
    """A trainer whose run is one step."""

    def __init__(self, setting: Setting) -> None:
        network = setting.read_generalist()
        self.student = setting.read_student()
        self.teacher = MeanTeacher(self.student)
        self.trainer = MeanTeacherTrainer(
            setting.device,
            1,
            [setting.batch()],
            self.student,
            sgd(self.student),
            LOSS,
            generalist=PromptedGeneralist(network, "none", num_clicks=setting.clicks),
            generalist_weight=lambda iteration: GENERALIST,
            teacher=self.teacher,
            consistency_weight=lambda iteration: CONSISTENCY,
        )
        self.trainer.generalist.register_forward_hook(self._keep_pseudo_masks)
        self._decode, network.decode = network.decode, self._keep_clicks

    def _keep_pseudo_masks(self, module: nn.Module, args: Any, answer: Any) -> None:
        self.pseudo_masks = answer.probability

    def _keep_clicks(self, embedding: Tensor, points: Tensor, labels: Tensor, **kwargs: Any) -> Any:
        self.clicks = points.long(), labels  # of all volumes, those before included
        return self._decode(embedding, points, labels, **kwargs)

    def step(self) -> None:
        """Take a step."""
        self.trainer.run()

    @property
    def loss(self) -> Tensor:
        """Of the last step."""
        return self.trainer.state.output["loss"].detach()

    @property
    def teacher_weights(self) -> list[Tensor]:
        """Parameters of the teacher."""
        return list(self.teacher.module.parameters())


class Naive:
    """The released algorithm."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.student = setting.read_student()
        self.teacher = copy.deepcopy(self.student)
        self.optimizer = sgd(self.student)
        self.batch = setting.batch()
        self.num_steps = 0

    def step(self, replayed: tuple[Tensor, Tensor] | None = None) -> None:
        """Take a step; with `replayed`, points (U, N, 3) and labels (U, N), click there on unlabelled volumes."""
        with torch.random.fork_rng():  # initial weights take random numbers; ours drew them long ago
            network = self.setting.read_generalist()
        image, label = self.batch["image"], self.batch["label"]
        count = len(label)
        logits = self.student(image)
        masks, asked = self._ask(network, image, logits.detach(), replayed)
        self.pseudo_masks = masks[count:]
        probability = logits.softmax(1)[count:]
        with torch.no_grad():
            taught = self._teach(image[count:])
            for _ in range(UNUSED_PASSES):
                self._teach(image[count:])
        generalist = (asked[count:] * (probability[:, 1:] - self.pseudo_masks) ** 2).mean()
        consistency = ((probability - taught) ** 2).mean()
        loss = LOSS(logits[:count], label) + GENERALIST * generalist + CONSISTENCY * consistency
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        decay = min(1 - 1 / (self.num_steps + 1), 0.99)
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.data.mul_(decay).add_(new.data, alpha=1 - decay)
        self.num_steps += 1
        self.loss = loss.detach()

    def _teach(self, image: Tensor) -> Tensor:
        noise = torch.clamp(0.1 * torch.randn(image.shape), -0.2, 0.2)
        return self.teacher(image + noise.to(image)).softmax(1)

    @torch.no_grad()
    def _ask(
        self, network: nn.Module, image: Tensor, logits: Tensor, replayed: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Pseudo-masks and whether there was a click, (B, 1, D, H, W) and (B, 1, 1, 1, 1)."""
        labelled, unlabelled = self.setting.labelled, self.setting.unlabelled
        # numbers as our trainer draws them: one for every unlabelled volume and click
        draws = torch.stack([torch.randint(1 << 62, (unlabelled,)) for _ in range(self.setting.clicks)], dim=1)
        draws = torch.cat([draws.new_zeros(labelled, self.setting.clicks), draws])
        self.same_clicks = []
        masks, asked = [], []
        for i in range(len(image)):
            places = None
            if replayed is not None and i >= labelled:
                places = [x[i - labelled].tolist() for x in replayed]
            mask, num_clicks = self._ask_about(network, image[i : i + 1], logits[i : i + 1], draws[i].tolist(), places)
            masks.append(mask)
            asked.append(float(num_clicks > 0))
        return torch.cat(masks), image.new_tensor(asked).view(-1, 1, 1, 1, 1)

    def _ask_about(
        self, network: nn.Module, image: Tensor, logits: Tensor, draws: list[int], replayed: list[list] | None
    ) -> tuple[Tensor, int]:
        """Pseudo-mask of one volume and the number of clicks."""
        side = (self.setting.img_size,) * 3
        wanted = F.interpolate(logits, side, mode="trilinear").argmax(1)[0] == 1
        answered = torch.zeros_like(wanted)
        points, labels, low = [], [], None
        same = []
        for c, draw in enumerate(draws):
            click = full_volume_click(answered, wanted, draw)
            if replayed is not None:
                there, sign = replayed[0][c], replayed[1][c]
                same.append(click == ((there, sign) if sign >= 0 else None))
                click = (there, sign) if sign >= 0 else None
            if click is None:
                break
            points.append(click[0])
            labels.append(click[1])
            embedding = network.encode(F.interpolate(image, side, mode="trilinear"))
            prompt = (torch.tensor([values], device=image.device) for values in (points, labels))
            low, _ = network.decode(embedding, *prompt, mask_logits=low)
            answered = F.interpolate(low, side, mode="trilinear")[0, 0] > 0
        self.same_clicks += [same] if replayed is not None else []
        if low is None:
            return torch.zeros_like(image), 0
        return F.interpolate(low, image.shape[2:], mode="trilinear").sigmoid(), len(points)

    @property
    def teacher_weights(self) -> list[Tensor]:
        """Parameters of the teacher."""
        return list(self.teacher.parameters())


def full_volume_click(answered: Tensor, wanted: Tensor, draw: int) -> tuple[list[int], int] | None:
    """Click in the inner half of the largest region of the error; none where there is no error."""
    error = (answered ^ wanted).cpu().numpy()
    regions, count = ndimage.label(error)
    if not count:
        return None
    largest = regions == 1 + np.bincount(regions.ravel())[1:].argmax()
    distance = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1, 1:-1]
    candidates = np.argwhere(distance > distance.max() / 2)
    point = candidates[draw % len(candidates)].tolist()
    return point, int(wanted[tuple(point)])


def largest_difference(naive: Naive, ours: Ours) -> float:
    pairs = [(naive.loss, ours.loss), (naive.pseudo_masks, ours.pseudo_masks)]
    pairs += zip(naive.student.parameters(), ours.student.parameters(), strict=True)
    pairs += zip(naive.teacher_weights, ours.teacher_weights, strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def resident_mebibytes() -> float:
    """Largest resident memory of this process so far; nan where the system does not tell."""
    status = Path("/proc/self/status")  # getrusage would give the parent's if that is larger
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), float("nan"))


def peak_mebibytes(version: type[Ours] | type[Naive], setting: Setting) -> float:
    """Memory of building a version and of one step, for a fresh process."""
    before = resident_mebibytes()
    version(setting).step()
    if setting.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(setting.device) / 2**20
    return resident_mebibytes() - before


def in_fresh_process(version: type[Ours] | type[Naive], setting: Setting) -> float:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(peak_mebibytes, version, setting).result()


def compare(setting: Setting, repeats: int) -> dict[str, Any]:
    setting.prepare()
    naive, ours = Naive(setting), Ours(setting)
    torch.manual_seed(2)
    ours.step()
    torch.manual_seed(2)
    naive.step(ours.clicks)
    difference = largest_difference(naive, ours)
    if difference > TOLERANCE:
        raise AssertionError(f"The steps differ by {difference} after the same clicks, {setting}.")
    same = [equal for volume in naive.same_clicks for equal in volume]
    if not all(volume[0] for volume in naive.same_clicks) or sum(same) < SAME_CLICKS * len(same):
        raise AssertionError(f"The clicks differ: same are {naive.same_clicks}, {setting}.")
    slow, fast = [], []
    for _ in range(repeats):
        slow.append(seconds(naive.step, setting.device))
        fast.append(seconds(ours.step, setting.device))
    naive_peak, our_peak = in_fresh_process(Naive, setting), in_fresh_process(Ours, setting)
    speed = min(slow) / min(fast)
    return {
        **{name: value for name, value in asdict(setting).items() if name != "folder"},
        "threads": torch.get_num_threads(),
        "naive s": min(slow),
        "ours s": min(fast),
        "times faster": speed,
        "naive MiB": naive_peak,
        "ours MiB": our_peak,
        "times smaller": naive_peak / our_peak,
        "same clicks": f"{sum(same)} of {len(same)}",
        "max difference": difference,
        "target met": "yes" if speed >= SPEED_TARGET else "no",
    }


def main(
    csv: str | None = None,
    device: str = "cpu",
    backbone: str = "sam_med3d_tiny",
    img_size: int = 64,
    patch: int = 64,
    num_clicks: int = 10,
    repeats: int = 3,
    full: bool = False,
) -> None:
    """Compare both steps with 1 labelled and 3 unlabelled volumes, and with 2 and 2.

    Args:
        csv: file for the table.
        device: "cpu" or "cuda".
        backbone: name of the generalist.
        img_size: side of the generalist's input in voxels.
        patch: side of the specialist's input in voxels.
        num_clicks: on every volume.
        repeats: timed steps of each version.
        full: add the published generalist at 128^3, one timed step, 1 labelled and 3 unlabelled volumes.
    """
    print(f"Target: {SPEED_TARGET:g} times faster, difference at most {TOLERANCE:g}")
    with TemporaryDirectory() as folder:
        rest = (num_clicks, device, folder)
        rows = [compare(Setting(backbone, img_size, patch, *sizes, *rest), repeats) for sizes in ((1, 3), (2, 2))]
        if full:
            rows.append(compare(Setting("sam_med3d", 128, 128, 1, 3, *rest), 1))
    report(rows, csv)


if __name__ == "__main__":
    fire.Fire(main)
