"""Small videos and image folders made on the spot, so that the tests need no data."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray


def number_frame(number: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """A frame `(H, W, 3)` RGB whose four corner blocks differ and whose middle says `number`."""
    frame = np.full((height, width, 3), 40, np.uint8)
    half_h, half_w = height // 2, width // 2
    frame[:half_h, :half_w] = (220, 30, 30)  # red top left
    frame[:half_h, half_w:] = (30, 220, 30)  # green top right
    frame[half_h:, :half_w] = (30, 30, 220)  # blue bottom left
    bits = [(number >> bit) & 1 for bit in range(8)]
    for bit, value in enumerate(bits):
        left = width * bit // 8
        frame[half_h - 6 : half_h + 6, left : left + width // 8] = 235 if value else 16
    return frame


@cache
def textured(seed: int, width: int = 1200, height: int = 900) -> NDArray[np.uint8]:
    """A picture `(H, W, 3)` with structure of several sizes."""
    rng = np.random.default_rng(seed)
    scene = np.zeros((height, width, 3))
    for cell in (6, 24, 80):
        noise = rng.uniform(0, 255, (height // cell + 2, width // cell + 2, 3))
        scene += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / 3
    return np.clip(scene, 0, 255).astype(np.uint8)


def pan_frame(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A frame `(H, W, 3)` of a camera that swings over a textured scene, 3 pixels a frame or so."""
    left = 300 + round(150 * np.sin(number / 40))
    return textured(11)[200 : 200 + height, left : left + width]


def read_number(frame: NDArray[np.uint8]) -> int:
    """The number that `number_frame` wrote, from a frame of any size."""
    height, width = frame.shape[:2]
    row = frame[height // 2].mean(axis=1)
    return sum(int(row[int(width * (bit + 0.5) / 8)] > 128) << bit for bit in range(8))


def write_video(
    path: Path,
    num_frames: int = 20,
    *,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    rate: int = 25,
    pts: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    gop: int = 8,
    pixel_format: str = "yuv420p",
    with_sound: bool = False,
    late: dict[int, int] | None = None,
    draw: Callable[[int, int, int], NDArray[np.uint8]] = number_frame,
) -> Path:
    """Encode `num_frames` numbered frames; `pts`, and `late` of a frame, are in 1 / 1000 s.

    `draw` draws a frame from its number, width and height.
    """
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else pixel_format
        stream.gop_size = gop
        stream.options = options or {}
        stream.codec_context.thread_count = 1
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=48000) if with_sound else None
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[number], Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(_delayed(stream.encode(frame), rate, late or {}))
        container.mux(_delayed(stream.encode(None), rate, late or {}))
        if sound is not None:
            for number in range(5):
                container.mux(sound.encode(_silence(number)))
            container.mux(sound.encode(None))
    return path


def _delayed(packets: list[av.Packet], rate: int, late: dict[int, int]) -> list[av.Packet]:
    for packet in packets:
        number = round(float(packet.pts * packet.time_base) * rate)
        if number in late:
            packet.dts = packet.pts = number * 1000 // rate
            packet.pts += late[number]
            packet.time_base = Fraction(1, 1000)
    return packets


def write_packets(path: Path, codec: str, frames: Sequence[bytes], size: tuple[int, int]) -> Path:
    """Put encoded frames (JPEG or PNG files) into a container as they are."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
        container.start_encoding()
        for number, data in enumerate(frames):
            packet = av.Packet(data)
            packet.stream, packet.is_keyframe = stream, True
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1, 25)
            container.mux(packet)
    return path


def put_sound_behind(path: Path) -> int:
    """Move the sound of an mp4 whose index is in front behind its pictures; where it starts."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        samples = [(e.pos, e.size) for e in container.streams.audio[0].index_entries]
    table = data.find(b"stco", data.find(b"stco") + 4)  # of the second track
    count = int.from_bytes(data[table + 8 : table + 12], "big")
    chunks = struct.unpack(f">{count}I", data[table + 12 : table + 12 + 4 * count])
    start, sound, places = len(data) + 8, bytearray(), []
    for chunk, following in zip(chunks, [*chunks[1:], 2**62], strict=True):
        places.append(start + len(sound))
        for position, size in samples:
            if chunk <= position < following:
                sound += data[position : position + size]
    data[table + 12 : table + 12 + 4 * count] = struct.pack(f">{count}I", *places)
    path.write_bytes(data + struct.pack(">I4s", 8 + len(sound), b"mdat") + sound)
    return start


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for number in range(20):
            container.mux(stream.encode(_silence(number)))
        container.mux(stream.encode(None))
    return path


def write_flash(path: Path, codec: str, at_s: float, late_s: float = 0.0) -> Path:
    """Two seconds that are dark and silent but for a flash with a tone of 1 kHz, of 0.2 s.

    Args:
        path: File to write; its suffix picks the container.
        codec: Encoder of the sound.
        at_s: Start of flash and tone.
        late_s: Seconds that the sound is late.
    """
    rate, pitch = 25, 48000
    time_s = np.arange(2 * pitch) / pitch
    tone = 0.5 * np.sin(2000 * np.pi * time_s) * ((time_s >= at_s) & (time_s < at_s + 0.2))
    form = {"libopus": "flt", "flac": "s16"}.get(codec, "fltp")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream(codec, rate=pitch, layout="mono")
        for number in range(2 * rate):
            is_lit = at_s <= number / rate + 1e-9 < at_s + 0.2
            image = np.full((64, 96, 3), 255 if is_lit else 0, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for start in range(0, len(tone), 1024):
            part = tone[None, start : start + 1024]
            part = (part * 32767).astype(np.int16) if form == "s16" else part.astype(np.float32)
            wave = av.AudioFrame.from_ndarray(part, format=form, layout="mono")
            wave.sample_rate, wave.time_base = pitch, Fraction(1, pitch)
            wave.pts = start + round(late_s * pitch)
            container.mux(sound.encode(wave))
        container.mux(sound.encode(None))
    return path


def _silence(number: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = 48000, number * 1024, Fraction(1, 48000)
    return frame


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write (a, b, c, d) of the display matrix into the video track of an mp4."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes before the matrix
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def write_images(
    folder: Path,
    num_frames: int,
    rate: float | None = None,
    *,
    size: tuple[int, int] = (96, 64),
    draw: Callable[[int, int, int], NDArray[np.uint8]] = number_frame,
) -> Path:
    """A MOT sequence with `rate`, or a plain folder of images without; `draw` as above."""
    images = folder / "img1" if rate is not None else folder
    images.mkdir(parents=True)
    for number in range(num_frames):
        bgr = draw(number, *size)[..., ::-1]
        cv2.imwrite(str(images / f"{number + 1:06d}.png"), bgr)
    if rate is not None:
        text = f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={rate:g}\n"
        (folder / "seqinfo.ini").write_text(text)
    return folder


# One of every container that archives hold.
CONTAINERS = {
    "tail_index.mp4": {},
    "front_index.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.avi": {"options": {"bf": "2"}},
    "a.mkv": {},
    "a.ts": {},
}
