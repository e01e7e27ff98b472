#!/usr/bin/env python3
"""Writes ten seconds of 1080p H.264 at 30 frames a second for `decode.py` and `pipeline.py`: a textured scene that the
camera pans over, moving discs and sensor noise, by x264's defaults, a key frame every 250.

    python benches/peers/hd.py OUT.mp4

Needs PyAV, OpenCV and numpy.
"""

import sys

import av
import cv2
import numpy as np

WIDTH, HEIGHT, FRAMES = 1920, 1080, 300


def main(path: str) -> None:
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (1600, 2800, 3), dtype=np.uint8), (0, 0), 6).astype(np.float32)
    grain = cv2.GaussianBlur(rng.normal(0, 12, (1600, 2800)).astype(np.float32), (0, 0), 1)
    scene = np.clip((scene - scene.mean()) * 6 + 128 + grain[..., None], 0, 255).astype(np.uint8)
    noise = [rng.normal(0, 4, (HEIGHT, WIDTH, 1)).astype(np.int16) for _ in range(7)]
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "medium", "g": "250", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.color_range, stream.codec_context.colorspace = 1, 1
        for i in range(FRAMES):
            x, y = int(200 + 150 * np.sin(i / 40)), int(150 + 120 * np.cos(i / 55))
            picture = scene[y : y + HEIGHT, x : x + WIDTH].copy()
            for k in range(6):
                across, down = np.sin(i / (15 + 7 * k) + k), np.cos(i / (18 + 5 * k) + 2 * k)
                centre = int(WIDTH * (0.5 + 0.4 * across)), int(HEIGHT * (0.5 + 0.4 * down))
                cv2.circle(picture, centre, 60 + 15 * k, (40 * k, 255 - 40 * k, 120), -1)
            shifted = np.roll(noise[i % 7], (37 * i, 91 * i), (0, 1))
            picture = np.clip(picture.astype(np.int16) + shifted, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


if __name__ == "__main__":
    main(sys.argv[1])
