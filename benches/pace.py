"""A video that comes in real time, for `mtcae infer -` (docs/live.md). Needs PyAV, NumPy and Pillow.

python benches/pace.py make CLIP.mkv WIDTH HEIGHT SECONDS      the demo's portrait in a picture of that size
python benches/pace.py play CLIP.mkv SECONDS [fast]            again and again, as Matroska, to standard output
"""

import pathlib
import sys
import time

import av
import numpy as np
from PIL import Image

PORTRAIT = pathlib.Path(__file__).parent.parent / "fixtures/demo/portrait.mp4"


def make(path, width, height, seconds):
    with av.open(str(PORTRAIT)) as source:
        frames = [Image.fromarray(f.to_ndarray(format="rgb24")) for f in source.decode(video=0)]
    scale = min(width / frames[0].width, height / frames[0].height)
    size = int(frames[0].width * scale), int(frames[0].height * scale)
    pictures = []
    for frame in frames:
        picture = Image.new("RGB", (width, height), (90, 100, 110))
        picture.paste(frame.resize(size), ((width - size[0]) // 2, (height - size[1]) // 2))
        pictures.append(np.asarray(picture))
    with av.open(path, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "g": "25", "bf": "0"}
        for i in range(25 * seconds):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[i % len(pictures)], format="rgb24")))
        out.mux(stream.encode())


def play(path, seconds, fast):
    options = {"live": "1", "flush_packets": "1", "cluster_time_limit": "40"}
    with av.open(path) as first, av.open(sys.stdout.buffer, "w", format="matroska", options=options) as out:
        stream = out.add_stream_from_template(first.streams.video[0])
        began, offset, reached = time.monotonic(), 0.0, 0.0
        while reached < seconds:
            with av.open(path) as source:
                for packet in source.demux(source.streams.video[0]):
                    if not packet.size or reached >= seconds:
                        continue
                    tick = float(packet.time_base)
                    reached = packet.pts * tick + offset
                    packet.pts = packet.dts = round(reached / tick)
                    packet.stream = stream
                    if not fast:
                        time.sleep(max(0.0, began + reached - time.monotonic()))
                    out.mux(packet)
            offset = reached + 0.04


match sys.argv[1:]:
    case ["make", path, width, height, seconds]:
        make(path, int(width), int(height), int(seconds))
    case ["play", path, seconds, *fast]:
        play(path, float(seconds), fast == ["fast"])
    case _:
        sys.exit(__doc__.strip())
