"""How a row of a VexFS matrix stands for a vector (docs/FORMAT.md, "Codecs"): a part of read_image.py."""

import struct

CODECS = ["none", "f16", "sq8", "sq4", "binary", "pq"]
TAKES = {"none": ("f32", "f16", "i8", "i16", "bit"), "f16": ("f32",)}
FLOATS = ("f32", "f16")


def takes(codec, element):
    return element in TAKES.get(codec, FLOATS)


def stored_length(codec, length, dimensions, quantizer):
    """Bytes of a row that stands for a vector of `length` bytes; `quantizer` is (subvectors, sub_dimensions, bits)."""
    if codec == "pq":
        return (quantizer[0] * quantizer[2] + 7) // 8
    return {"none": length, "f16": 2 * dimensions, "sq8": dimensions, "sq4": (dimensions + 1) // 2,
            "binary": (dimensions + 7) // 8}[codec]


def by_codebook(element, row, quantizer, codebook):
    """The vector's bytes from its codes: entries of a codebook, f32."""
    subvectors, length, bits = quantizer
    codes = [row[p] if bits == 8 else row[p // 2] >> 4 * (p % 2) & 15 for p in range(subvectors)]
    entries = ((p << bits | code) * length * 4 for p, code in enumerate(codes))
    values = b"".join(codebook[at:at + length * 4] for at in entries)
    if element == "f32":
        return values
    count = subvectors * length
    return struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", values))


def decode(codec, element, dimensions, row, scale):
    """The vector's bytes; `scale` is the row's, as the bits of an f32. Of all codecs but pq."""
    if codec == "none":
        return row
    if codec == "f16":
        return struct.pack(f"<{dimensions}f", *struct.unpack(f"<{dimensions}e", row))
    if scale >= 0x7F800000:
        raise ValueError("a row has an impossible scale")
    scale, = struct.unpack("<f", struct.pack("<I", scale))
    if codec == "sq8":
        codes = struct.unpack(f"<{dimensions}b", row)
    elif codec == "sq4":
        codes = [(row[d // 2] >> 4 * (d % 2) & 15) - 7.5 for d in range(dimensions)]
    else:
        codes = [2 * (row[d // 8] >> d % 8 & 1) - 1 for d in range(dimensions)]
    # Exact: a code has at most 8 bits, a scale 16, and a Python float 53.
    values = (code * scale + 0.0 for code in codes)
    return struct.pack(f"<{dimensions}{'f' if element == 'f32' else 'e'}", *values)
