"""Files that are no good videos, of every kind that an archive or an attacker brings."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from made_videos import (
    number_frame,
    put_sound_behind,
    set_display_matrix,
    write_packets,
    write_sound,
    write_video,
)

GOOD = {  # name -> how it is encoded; all have the sound or the reordering that archives have
    "front.mp4": {"container_options": {"movflags": "faststart"}, "options": {"bf": "0"}},
    "tail.mp4": {"with_sound": True},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:bframes=2"}},
    "mpeg4.mov": {"codec": "mpeg4", "with_sound": True},
    "h264.mkv": {"with_sound": True, "container_options": {"cluster_time_limit": "300"}},
    "mpeg4.mkv": {"codec": "mpeg4", "container_options": {"cluster_time_limit": "300"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "mpeg4.avi": {"codec": "mpeg4", "with_sound": True},
    "mjpeg.avi": {"codec": "mjpeg"},
    "h264.ts": {"options": {"bf": "0"}, "with_sound": True},
}


def write_good(folder: Path, num_frames: int) -> dict[str, Path]:
    """One good video of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: write_video(folder / name, num_frames, gop=8, **how) for name, how in GOOD.items()
    }


def damage(rng: random.Random, data: bytes) -> tuple[bytes, int]:
    """Bytes changed, taken out, put in or cut off; and the first place where they differ."""
    changed, kind = bytearray(data), rng.random()
    places = [_place(rng, len(data)) for _ in range(rng.choice((1, 1, 2, 4)))]
    if kind < 0.7:
        for place in places:
            changed[place] = rng.choice(
                (0, 255, 127, 128, rng.randrange(256), changed[place] ^ 1 << rng.randrange(8))
            )
        return bytes(changed), min(places)
    place, length = places[0], rng.choice((1, 4, 188, 2000))
    if kind < 0.8:
        del changed[place : place + length]
    elif kind < 0.87:
        changed[place:place] = rng.randbytes(length)
    else:
        del changed[place:]
    return bytes(changed), place


def _place(rng: random.Random, length: int) -> int:
    """Anywhere, or where headers and indexes are."""
    where, ends = rng.random(), min(length, 2500)
    if where < 0.4:
        return rng.randrange(length)
    return rng.randrange(ends) if where < 0.7 else length - 1 - rng.randrange(ends)


class Makers:
    """Writes hostile files; `self.kinds` are their makers by name.

    Args:
        folder: For the good videos that they are made of.
    """

    def __init__(self, folder: Path) -> None:
        self._good = {name: path.read_bytes() for name, path in write_good(folder, 12).items()}
        self._folder = folder
        self._made: dict[str, bytes] = {}
        own = (name for name in dir(self) if name.startswith("make_"))
        self.kinds: dict[str, Callable[[Path, random.Random], None]] = {
            name.removeprefix("make_"): getattr(self, name) for name in own
        }

    def _any(self, rng: random.Random) -> bytes:
        return self._good[rng.choice(sorted(self._good))]

    def _video(self, name: str, num_frames: int = 6, **how: object) -> bytes:
        if name not in self._made:
            path = write_video(self._folder / name, num_frames, **how)  # type: ignore[arg-type]
            self._made[name] = path.read_bytes()
        return self._made[name]

    def make_empty(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(b"")

    def make_one_byte(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(rng.randbytes(1))

    def make_truncated(self, path: Path, rng: random.Random) -> None:
        data = self._any(rng)
        path.write_bytes(data[: rng.randrange(len(data))])

    def make_damaged(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(damage(rng, self._any(rng))[0])

    def make_shredded(self, path: Path, rng: random.Random) -> None:
        data = self._any(rng)
        for _ in range(20):
            data = damage(rng, data)[0] or data
        path.write_bytes(data)

    def make_random(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(rng.randbytes(rng.randrange(1, 20_000)))

    def make_magic_and_random(self, path: Path, rng: random.Random) -> None:
        heads = (
            b"\0\0\0\x18ftypisom",
            b"RIFF\xff\xff\xff\x7fAVI LIST",
            b"\x1a\x45\xdf\xa3\x80",
            b"G",
        )
        path.write_bytes(rng.choice(heads) + rng.randbytes(rng.randrange(1, 5000)))

    def make_text(self, path: Path, rng: random.Random) -> None:
        path.write_text("Dear diary, today I renamed a file.\n" * rng.randrange(1, 100))

    def make_html(self, path: Path, rng: random.Random) -> None:
        path.write_text("<html><body>404</body></html>" * rng.randrange(1, 50))

    def make_svg(self, path: Path, rng: random.Random) -> None:
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>')

    def make_gif(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(b"GIF89a" + rng.randbytes(300))

    def make_jpeg(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(cv2.imencode(".jpg", number_frame(1))[1].tobytes())

    def make_hls(self, path: Path, rng: random.Random) -> None:
        path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\n/etc/passwd\n")

    def make_concat(self, path: Path, rng: random.Random) -> None:
        path.write_text("ffconcat version 1.0\nfile good_000.mp4\n")

    def make_sdp(self, path: Path, rng: random.Random) -> None:
        path.write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n")

    def make_sound(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(write_sound(self._folder / "sound.mp4").read_bytes())

    def make_sound_cut_off(self, path: Path, rng: random.Random) -> None:
        front = {"movflags": "faststart"}
        place = self._folder / "behind.mp4"
        write_video(place, 12, with_sound=True, container_options=front)
        start = put_sound_behind(place)
        path.write_bytes(place.read_bytes()[: start + rng.randrange(50)])

    def make_encrypted(self, path: Path, rng: random.Random) -> None:
        key = "0123456789abcdef0123456789abcdef"
        how = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
        path.write_bytes(self._video("encrypted.mp4", container_options=how))

    def make_other_codec(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(self._video("asv1.avi", codec="asv1"))

    def make_unknown_codec(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(self._good["front.mp4"].replace(b"avc1", b"zzzz"))

    def make_no_frames(self, path: Path, rng: random.Random) -> None:
        data = self._good["front.mp4"]
        path.write_bytes(data.replace(b"stsz", b"xxxx").replace(b"stco", b"xxxx"))

    def make_a_day_long(self, path: Path, rng: random.Random) -> None:
        data = bytearray(self._good["front.mp4"])
        for box in (b"mvhd", b"mdhd"):
            place = data.index(box) + 20
            data[place : place + 4] = (86_400_000).to_bytes(4, "big")
        path.write_bytes(data)

    def make_too_wide(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(self._video("wide.mkv", 1, codec="ffv1", size=(16_000, 4)))

    def make_too_many_pixels(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(self._video("large.mkv", 1, codec="mjpeg", size=(7000, 6000)))

    def make_one_pixel(self, path: Path, rng: random.Random) -> None:
        gray = {"codec": "ffv1", "pixel_format": "gray"}
        path.write_bytes(self._video("one.mkv", 2, size=(1, 1), **gray))

    def make_deep(self, path: Path, rng: random.Random) -> None:
        pixel_format = rng.choice(("yuv420p10le", "bgra", "gray", "gray16le", "yuv444p"))
        name = f"{pixel_format}.mkv"
        path.write_bytes(self._video(name, codec="ffv1", pixel_format=pixel_format))

    def make_another_size_midway(self, path: Path, rng: random.Random) -> None:
        parts = [self._video(f"{w}.ts", size=(w, 64)) for w in (96, 128)]
        path.write_bytes(b"".join(parts))

    def make_rotated(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(self._good["front.mp4"])
        set_display_matrix(path, rng.choice(((0, 1, -1, 0), (0, 0, 0, 0), (-1, 0, 0, 1))))

    def make_backward_stamps(self, path: Path, rng: random.Random) -> None:
        late = {rng.randrange(12): rng.choice((40, 95, 5000))}  # the next ones go back
        write_video(self._folder / "late.mkv", 12, codec="mpeg4", late=late)
        path.write_bytes((self._folder / "late.mkv").read_bytes())

    def make_many_scans(self, path: Path, rng: random.Random) -> None:
        jpeg = cv2.imencode(".jpg", number_frame(1), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
        last = jpeg[jpeg.rfind(b"\xff\xda") : -2]
        bomb = jpeg[:-2] + last * 5000 + jpeg[-2:]
        write_packets(self._folder / "scans.avi", "mjpeg", [bomb], (96, 64))
        path.write_bytes((self._folder / "scans.avi").read_bytes())

    def make_png_of_texts(self, path: Path, rng: random.Random) -> None:
        body = b"zTXt" + b"a\0\0" + zlib.compress(bytes(1_000_000))
        text = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
        png = cv2.imencode(".png", number_frame(1))[1].tobytes()
        heavy = png[:33] + text * 500 + png[33:]
        write_packets(self._folder / "texts.mov", "png", [heavy], (96, 64))
        path.write_bytes((self._folder / "texts.mov").read_bytes())

    def make_huge_png(self, path: Path, rng: random.Random) -> None:
        head = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2
        write_packets(self._folder / "png.mov", "png", [head + bytes(100)], (96, 64))
        path.write_bytes((self._folder / "png.mov").read_bytes())

    def make_link_to_itself(self, path: Path, rng: random.Random) -> None:
        path.symlink_to(path.name)

    def make_link_to_nothing(self, path: Path, rng: random.Random) -> None:
        path.symlink_to("nowhere.mp4")

    def make_pipe(self, path: Path, rng: random.Random) -> None:
        os.mkfifo(path)

    def make_boxes_without_end(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(b"\0\0\0\x08free" * rng.randrange(1, 200_000))

    def make_boxes_in_boxes(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(
            b"\0\0\x7f\xffmoov\0\0\x7f\xfetrak\0\0\x7f\xfdmdia" * rng.randrange(1, 500)
        )

    def make_zeros(self, path: Path, rng: random.Random) -> None:
        path.write_bytes(np.zeros(rng.randrange(1, 100_000), np.uint8).tobytes())


SUFFIXES = (".mp4", ".mkv", ".avi", ".ts", ".mov", ".webm")
