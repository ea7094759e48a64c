"""Small trees that have the layouts of public data sets, down to the bytes of their files."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from jde_ray.pipelines.data_sets.convert import Converted, convert
from jde_ray.pipelines.data_sets.kinds import KINDS
from jde_ray.pipelines.data_sets.pictures import Notes, Picture
from jde_ray.pipelines.formats.label_files import LabelErrors

WIDTH, HEIGHT = 64, 48
Box = tuple[float, float, float, float]


def jpeg(width: int = WIDTH, height: int = HEIGHT, shade: int = 90) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), shade, np.uint8))[1].tobytes()


def png(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def turned_jpeg(orientation: int = 6) -> bytes:
    """A JPEG whose EXIF says that it lies on its side."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    data = jpeg()
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def cell(items: Sequence[Any], *, column: bool = False) -> NDArray[Any]:
    """MATLAB cell array."""
    made = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        made[place] = item
    return made.reshape((-1, 1) if column else (1, -1))


def struct_array(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> NDArray[Any]:
    """MATLAB struct array of one row."""
    made = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for place, row in enumerate(rows):
        made[0, place] = tuple(row)
    return made


def mat(path: Path, **variables: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)
    return path


def seq(
    path: Path,
    frames: Sequence[bytes],
    *,
    padding: int = 10,
    promised: int | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    kind: int = 201,
) -> Path:
    """A `.seq` file: toolbox files have 10 bytes of padding, others 2."""
    header = struct.pack("<I", 0xFEED) + "Norpix seq\0\0".encode("utf-16-le")
    header += struct.pack("<iI", 3, 1024) + b"\0" * 512
    count = len(frames) if promised is None else promised
    width, height = size
    header += struct.pack(
        "<9I", width, height, 24, 8, width * height * 3 % 2**32, kind, count, 0, 0
    )
    body = header.ljust(1024, b"\0")
    for index, data in enumerate(frames):
        time = struct.pack("<iH", index, 0)
        body += struct.pack("<I", len(data) + 4) + data + time + b"\0" * padding
    return put(path, body)


Person = tuple[int, Box, Box]  # track, pos, posv


def vbb(
    path: Path, labels: Sequence[str], frames: Sequence[Sequence[Person]], version: float = 1.4
) -> Path:
    listed = []
    for people in frames:
        rows = [
            (float(track), np.array([pos]), float(any(posv)), 0.0, np.array([posv], float))
            for track, pos, posv in people
        ]
        names = ("id", "pos", "occl", "lock", "posv")
        listed.append(struct_array(names, rows) if rows else np.zeros((0, 0)))
    number = len(labels)
    content = {
        "nFrame": float(len(frames)), "objLists": cell(listed), "maxObj": float(number),
        "objInit": np.ones((1, number)), "objLbl": cell(labels), "objStr": np.ones((1, number)),
        "objEnd": np.ones((1, number)), "objHide": np.zeros((1, number)), "altered": 0.0,
        "log": 0.0, "logLen": 0.0,
    }  # fmt: skip
    return mat(path, A=content, vers=version)


WHOLE = (0.0, 0.0, 0.0, 0.0)  # posv of somebody of whom nothing is hidden


def caltech(root: Path) -> Path:
    """Two training videos and one of the tests; track 1 of each video is another person."""
    tall, small = (5.5, -2.0, 10.0, 20.0), (30.0, 5.0, 4.0, 8.0)
    frames: list[list[Person]] = [
        [(1, tall, WHOLE), (2, small, WHOLE)],
        [],
        [(1, tall, (5.5, 0.0, 10.0, 5.0)), (3, tall, WHOLE)],
        [(1, tall, (5.5, 0.0, 10.0, 19.0)), (4, (40.0, 5.0, 9.0, 20.0), WHOLE)],
    ]
    labels = ["person", "person", "people", "person"]
    pictures = [jpeg(shade=shade) for shade in (10, 60, 110, 160)]
    for place, padding in (("set00/V000", 10), ("set05/V001", 2), ("set07/V000", 10)):
        seq(root / f"{place}.seq", pictures, padding=padding, promised=0 if padding == 2 else None)
        vbb(root / "annotations" / f"{place}.vbb", labels, frames)
    return root


def citypersons(root: Path) -> Path:
    """Numbers change their type from picture to picture; the group has no visible box."""
    name = "{}_00000{}_000019_leftImg8bit.png"
    rows = [
        np.array([[1, 10, 5, 8, 20, 24001, 10, 5, 8, 10], [0, 40, 5, 9, 9, 0, 40, 5, 9, 9],
                  [5, 30, 5, 20, 20, 24, 0, 0, 0, 0]], np.uint16),
        np.array([[2, -6, 5, 10, 25, 25002, 0, 5, 4, 25]], np.int16),
        np.zeros((0, 10), np.uint8),
        np.array([[0, 1, 1, 5, 5, 0, 1, 1, 5, 5]], np.uint8),
    ]  # fmt: skip
    for split, city in (("train", "aachen"), ("val", "lindau")):
        cells_ = []
        for index, bbs in enumerate(rows):
            image = name.format(city, index)
            put(root / "leftImg8bit" / split / city / image, png())
            cells_.append(struct_array(("cityname", "im_name", "bbs"), [(city, image, bbs)]))
        mat(root / "annotations" / f"anno_{split}.mat", **{f"anno_{split}_aligned": cell(cells_)})
    return root


def eth(root: Path) -> Path:
    """BAHNHOF with its refined file, LOEWENPLATZ, and LINTHESCHER, which is a test of MOT16."""
    places = {
        "seq03-img-left": ("bahnhof-annot.idl", "eth01.idl"),
        "lp-left": ("lp-annot.idl",),
        "seq02-img-left": ("linthescher-annot.idl",),
    }
    for folder, files in places.items():
        for number in (1, 2, 3, 4):
            put(root / folder / f"image_{number:08}_0.png", png())
        text = (
            f'"left/image_00000001_0.png": (5, 6, 15, 26), (40, 30, 30, 10):0.87;\n'
            f'"{folder}/image_00000002_0.png";\n"image_00000004_0.png": (1, 2, 1, 20).\n'
        )
        for name in files:
            put(root / name, text if name != "bahnhof-annot.idl" else '"image_00000001_0.png".\n')
    return root


GT = """1,7,11,6,10,20,1,1,1
2,7,12,6,10,20,1,1,0.4
1,3,31,6,10,20,1,1,0
2,9,11,6,9,9,1,3,1
2,4,11,6,9,9,0,1,1
1,8,21,6,10,20,1,7,1
2,5,200,6,9,9,1,1,0
"""


def mot(root: Path, *names: str, text: str = GT, num_frames: int = 3) -> Path:
    """Sequences with rows by id, hidden and outside people, a distractor, a car, flag 0."""
    for name in names:
        folder = root / "train" / name
        for frame in range(1, num_frames + 1):
            put(folder / "img1" / f"{frame:06}.jpg", jpeg(shade=20 * frame))
        put(folder / "gt" / "gt.txt", text)
    put(root / "test" / "MOT17-01-SDP" / "img1" / "000001.jpg", jpeg())
    return root


def cuhk_sysu(root: Path) -> Path:
    """Three training and two test pictures; a box without area, a copy, somebody twice."""
    dataset = root / "dataset"
    boxes = {
        "s1.jpg": [(5, 6, 10, 20), (30, 6, 10, 20), (30, 6, 10, 20), (1, 1, 0, 5)],
        "s2.jpg": [(6, 7, 10, 20)],
        "s10.jpg": [],
        "s3.jpg": [(7, 8, 11, 21), (20, 8, 11, 21)],
        "s20.jpg": [(8, 9, 12, 22)],
    }
    for name in boxes:
        put(dataset / "Image" / "SSM" / name, jpeg())
    listed = []
    for name, own in boxes.items():
        rows = [(np.array([box], np.uint8), 0.0) for box in own]
        inside = struct_array(("idlocate", "ishard"), rows) if rows else np.zeros((0, 0))
        listed.append((name, float(len(own)), inside))
    notes = dataset / "annotation"
    mat(notes / "Images.mat", Img=struct_array(("imname", "nAppear", "box"), listed))
    mat(notes / "pool.mat", pool=cell(["s3.jpg", "s20.jpg"], column=True))
    scene = struct_array(
        ("imname", "idlocate", "ishard"),
        [("s1.jpg", np.array([[5, 6, 10, 20]], np.uint8), 0.0),
         ("s2.jpg", np.array([[6, 7, 10, 20]], np.int16), 0.0)],
    )  # fmt: skip
    lost = struct_array(
        ("imname", "idlocate", "ishard"), [("s2.jpg", np.array([[1, 2, 3, 4]]), 0.0)]
    )
    person = ("idname", "nAppear", "scene")
    people = [
        struct_array(person, [("p11930", 2.0, scene)]),
        struct_array(person, [("p7", 1.0, lost)]),
    ]
    mat(notes / "test" / "train_test" / "Train.mat", Train=cell(people, column=True))
    query = struct_array(
        ("imname", "idlocate", "ishard", "idname"),
        [("s3.jpg", np.array([[7, 8, 11, 21]]), 0.0, "p9")],
    )
    gallery = struct_array(
        ("imname", "idlocate", "ishard"),
        [("s20.jpg", np.array([[8, 9, 12, 22]]), 0.0), ("s1.jpg", np.zeros((0, 0)), 0.0)],
    )
    mat(
        notes / "test" / "train_test" / "TestG50.mat",
        TestG50=struct_array(("Query", "Gallery"), [(query, gallery)]),
    )
    return root


def prw(root: Path) -> Path:
    """Three names of the variable, unknown people, a box that begins before the picture."""
    rows = {
        "c1s1_000151": ("box_new", [[932, 10.5, 6, 10, 20], [-2, -1.7, 6, 10, 20]]),
        "c1s1_000176": ("anno_file", [[5, 11.5, 6, 10, 20]]),
        "c2s1_000001": ("anno_previous", [[5, 30, 6, 10, 20], [479, 5, 5, 0, 5]]),
    }
    for name, (variable, own) in rows.items():
        put(root / "frames" / f"{name}.jpg", jpeg())
        mat(root / "annotations" / f"{name}.jpg.mat", **{variable: np.array(own, np.float64)})
    train, test = cell(["c1s1_000176", "c1s1_000151"], column=True), cell(["c2s1_000001"])
    mat(root / "frame_train.mat", img_index_train=train)
    mat(root / "frame_test.mat", img_index_test=test)
    return root


def crowdhuman(root: Path) -> Path:
    """A comma in names, missing `extra`, a mask, an ignored person, a picture on its side."""
    person = {"tag": "person", "fbox": [-4, 5, 12, 30], "vbox": [0, 5, 8, 10], "hbox": [0, 5, 4, 4]}
    ignored = {**person, "extra": {"ignore": 1, "box_id": 1, "occ": 0}}
    lines = {
        "273271,c9db000d5146c15": [person, ignored, {**person, "tag": "mask", "extra": {}}],
        "1066405,1b8e00076f5b26a": [],
    }
    for split in ("train", "val"):
        folder = root / f"CrowdHuman_{split}" / "Images"
        for name in lines:
            put(folder / f"{name}.jpg", turned_jpeg() if "," in name[:7] else jpeg())
        text = "".join(
            json.dumps({"ID": name, "gtboxes": own}) + "\n" for name, own in lines.items()
        )
        put(root / f"annotation_{split}.odgt", text)
    return root


WRITERS = {
    "caltech": caltech, "citypersons": citypersons, "eth": eth, "cuhksysu": cuhk_sysu,
    "prw": prw, "crowdhuman": crowdhuman, "mot17": lambda root: mot(root, "MOT17-02-SDP"),
    "mot15": lambda root: mot(root, "Venice-2", text="1,1,5,5,9,20,1,-1,-1,-1\n"),
}  # fmt: skip


def labels(out: Path, listed: str) -> dict[str, list[tuple[int, list[float]]]]:
    """Identity and left, top, width, height in pixels of the people of each picture of a list."""
    found = {}
    for image in (out / listed).read_text().splitlines():
        label = image.replace("/images/", "/labels_with_ids/").rpartition(".")[0] + ".txt"
        height, width = cv2.imread(str(out / image)).shape[:2]
        rows = []
        for line in (out / label).read_text().splitlines():
            kind, who, *shares = line.split()
            assert kind == "0"
            xc, yc, w, h = (
                float(s) * side for s, side in zip(shares, [width, height] * 2, strict=True)
            )
            rows.append((int(who), [round(v, 3) for v in (xc - w / 2, yc - h / 2, w, h)]))
        found[image] = rows
    return found


def convert_tree(name: str, root: Path, *, skip_bad: bool = False, **rules: Any) -> Converted:
    """Convert ROOT/in to ROOT/out."""
    own = KINDS[name].load().RULES.changed(name, rules)
    (root / "out").mkdir(exist_ok=True)
    return convert(name, root / "in", root / "out", own, skip_bad=skip_bad)


def read_tree(name: str, root: Path, **rules: Any) -> tuple[list[Picture], LabelErrors]:
    """Pictures of ROOT/in and what is wrong with them, without writing anything."""
    converter, notes = KINDS[name].load(), Notes()
    own, pictures = converter.RULES.changed(name, rules), []
    for part in converter.find(root / "in", name):
        try:
            pictures += converter.read(part, own, notes)
        except ValueError as error:  # as `convert` does
            notes.problems.add(part.files[0], None, "unreadable file", str(error))
    return pictures, notes.problems
