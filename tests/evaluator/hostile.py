"""Files that nobody honest sends, each with the sentence that must refuse it; made where they are asked for.

Hostile pickles try to make a file called `canary` in the working directory: where it appears, something was executed.
"""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from evaluator.environment import ROOT
from evaluator.manifest import METADATA_KEY
from evaluator.safetensors_header import read_header

TINY = ROOT / "fixtures" / "tiny.safetensors"

PLANT = "open('canary', 'w').close()"


def hostile_files() -> Mapping[str, tuple[Callable[[], bytes], str]]:
    """Return every file by name: what makes its bytes, and a regular expression for the refusal."""
    return FORMATS | SAFETENSORS | WEIGHTS | MANIFESTS | ZIPS | PICKLES


# ---- safetensors


def tiny(change: Callable[[dict[str, Any]], object] = lambda state: None, manifest: str | None = None) -> bytes:
    """The tiny checkpoint with its tensors passed through `change`, or with another manifest."""
    state = load_file(TINY)
    change(state)
    return save(state, {METADATA_KEY: manifest or read_header(TINY).metadata[METADATA_KEY]})


def header(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The tiny checkpoint with its header passed through `change`."""
    whole = TINY.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    fields = json.loads(whole[8 : 8 + length])
    change(fields)
    text = json.dumps(fields).encode()
    return len(text).to_bytes(8, "little") + text + whole[8 + length :]


def text_header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


def move(name: str, by: int) -> Callable[[dict[str, Any]], object]:
    def change(fields: dict[str, Any]) -> None:
        fields[name]["data_offsets"] = [offset + by for offset in fields[name]["data_offsets"]]

    return change


def first(name: str, value: float) -> Callable[[dict[str, Any]], object]:
    def change(state: dict[str, Any]) -> None:
        state[name] = state[name].copy()
        state[name].flat[0] = value

    return change


def item(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.update({name: value})


def bit_flipped() -> bytes:
    whole = bytearray(TINY.read_bytes())
    start = 8 + int.from_bytes(whole[:8], "little")
    whole[start + read_header(TINY).tensors["2.running_var"].start + 3] ^= 0x80
    return bytes(whole)


def declared(**fields: Any) -> str:
    return json.dumps({"architecture": "digits-cnn", "dataset": "digits", "options": {"width": 8}} | fields)


SAFETENSORS = {
    "truncated data": (lambda: TINY.read_bytes()[:-5], "truncated: its tensors need"),
    "truncated header": (lambda: TINY.read_bytes()[:99], "truncated: its header ends"),
    "flipped bit in the header": (lambda: TINY.read_bytes().replace(b'"F32"', b'"F33"', 1), "dtype 'F33'; accepted"),
    "header of a terabyte": (lambda: (1 << 40).to_bytes(8, "little") + b"{}", "claims a header of 1099511627776"),
    "header of a million tensors": (
        lambda: text_header(b"{" + b",".join(b'"%x":{}' % i for i in range(1_000_000)) + b"}"),
        "claims a header of 10",
    ),
    "six thousand tensors": (
        lambda: text_header(
            json.dumps({f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(6000)}).encode()
        ),
        "declares 6000 tensors; expected were 1 to 5000",
    ),
    "duplicate keys": (lambda: text_header(b'{"a":{},"a":{}}'), "has the key 'a' twice"),
    "overlapping tensors": (lambda: header(move("2.bias", -4)), "may neither overlap nor leave gaps"),
    "gap between tensors": (lambda: header(move("2.bias", 4)), "may neither overlap nor leave gaps"),
    "safetensors and zip at once": (lambda: TINY.read_bytes() + zip_of(good()), "bytes after its last tensor"),
    "deep JSON": (lambda: text_header(b'{"a":' + b"[" * 900_000 + b"]" * 900_000 + b"}"), "not valid JSON"),
    "a number of a million digits": (lambda: text_header(b'{"a":' + b"9" * 1_000_000 + b"}"), "not valid JSON"),
    "metadata that is no text": (lambda: header(item("__metadata__", {"manifest": {}})), "not an object of strings"),
}

WEIGHTS = {
    "flipped bit in a variance": (bit_flipped, "'2.running_var' holds a variance that is not above 0"),
    "a weight that is no number": (lambda: tiny(first("1.weight", np.nan)), "'1.weight' .* not finite"),
    "an infinite weight": (lambda: tiny(first("1.weight", np.inf)), "'1.weight' .* not finite"),
    "negative variance": (lambda: tiny(first("2.running_var", -1)), "'2.running_var' holds a variance"),
    "a deviation of zero": (lambda: tiny(first("0.std", 0)), "finite: False"),
    "wrong shape": (lambda: tiny(item("9.bias", np.zeros(11, np.float32))), r"'9.bias' has shape \[11\], but"),
    "integers as weights": (lambda: tiny(item("9.bias", np.zeros(10, np.int64))), "'9.bias' has the wrong kind"),
    "a tensor too few": (lambda: tiny(lambda state: state.pop("9.bias")), "lacks tensor '9.bias'"),
    "a name written backwards": (
        lambda: tiny(item("\u202e9.bias\ud800".encode("utf-8", "replace").decode(), np.zeros(1, np.float32))),
        r"has tensor '\\u202e9.bias\?'",
    ),
    "a name of look-alikes": (lambda: tiny(item("9.bi\u0430s", np.zeros(10, np.float32))), "has tensor '9.bi\u0430s'"),
}

MANIFESTS = {
    "absurd width": (lambda: tiny(manifest=declared(options={"width": 10**9})), "'width' .* was 1000000000"),
    "an option of nobody's": (lambda: tiny(manifest=declared(options={"code": PLANT})), "'code' .* not permitted"),
    "an architecture that is code": (lambda: tiny(manifest=declared(architecture=PLANT)), "no architecture is called"),
    "a data set that is a path": (lambda: tiny(manifest=declared(dataset="../../etc/passwd")), "no data set is called"),
    "an unknown field": (lambda: tiny(manifest=declared(requires=PLANT)), "malformed at requires"),
    "a deep manifest": (lambda: tiny(manifest='{"options":' + '{"a":' * 50_000), "malformed at its text"),
    "options of another network": (lambda: tiny(manifest=declared(options={"width": 64})), "expects"),
    "a manifest of NaN": (lambda: tiny(manifest='{"architecture": NaN}'), "malformed"),
}

# ---- zips and pickles of torch.save


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(
    *, data: bytes | None = None, start: int = 0, shape: tuple[int, ...] = (4,), strides: tuple[int, ...] = (1,),
    hooks: bytes = b"}",
) -> bytes:  # fmt: skip
    where = storage() if data is None else data
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + where + number(start) + numbers(shape) + numbers(strides) + b"\x89"
        + hooks + b"tR"
    )  # fmt: skip


def state(*items: bytes) -> bytes:
    """A pickle of a dictionary of these names and values in turn."""
    return b"\x80\x02}(" + b"".join(items) + b"u."


def good() -> bytes:
    return state(text("w"), tensor())


def called(module: str, name: str, *arguments: str) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"tR"


def zip_of(data: bytes, *others: tuple[Any, bytes], method: int = zipfile.ZIP_STORED, storage_bytes: int = 16) -> bytes:
    """What torch.save writes: a pickle, one storage, and `others` (name or ZipInfo, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(storage_bytes))
        archive.writestr("archive/version", "3\n")
        for name, content in others:
            archive.writestr(name, content)
    return buffer.getvalue()


def pickled(*items: bytes) -> Callable[[], bytes]:
    return lambda: zip_of(state(*items))


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("archive/data/1")
    info.external_attr = 0o120777 << 16
    return info


def twice() -> bytes:
    return zip_of(good(), ("archive/data/1", b"")).replace(b"archive/data/1", b"archive/data/0")


def encrypted() -> bytes:
    whole = bytearray(zip_of(good()))
    whole[whole.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(whole)


def overlapping() -> bytes:
    """Two members of the directory whose bytes are the same ones."""
    whole = bytearray(zip_of(good(), ("archive/data/1", bytes(16))))
    entries = [at for at in range(len(whole)) if whole[at : at + 4] == b"PK\x01\x02"]
    whole[entries[3] + 42 : entries[3] + 46] = whole[entries[1] + 42 : entries[1] + 46]
    return bytes(whole)


def lying_directory() -> bytes:
    whole = bytearray(zip_of(good()))
    whole[-10:-6] = struct.pack("<I", 1 << 30)
    return bytes(whole)


def flipped_storage() -> bytes:
    whole = bytearray(zip_of(good()))
    whole[whole.find(b"archive/data/0") + len("archive/data/0")] ^= 1
    return bytes(whole)


def laughs(levels: int) -> bytes:
    """Tuples of tuples, each holding the one before twice: 2^levels leaves for whoever looks at all of them."""
    return b")q\x01" + b"h\x01\x86q\x01" * levels


ZIPS = {
    "a zip that grows": (
        lambda: zip_of(good(), method=zipfile.ZIP_DEFLATED, storage_bytes=50_000_000),
        "is compressed, to .* which torch.save never does",
    ),
    "a member that climbs": (lambda: zip_of(good(), ("../../canary", b"x")), "holds '../../canary', which no state"),
    "a member from the root": (lambda: zip_of(good(), ("/tmp/canary", b"x")), "holds '/tmp/canary', which no state"),
    "a link": (lambda: zip_of(good(), (link(), b"/etc/passwd")), "'archive/data/1' .* is a link, a folder or nameless"),
    "a folder": (lambda: zip_of(good(), ("archive/data/", b"")), "is a link, a folder or nameless"),
    "a member without a name": (
        lambda: zip_of(good(), ("nameless", b"x")).replace(b"nameless", b"\0ameless"),
        "member '' .* is a link, a folder or nameless",
    ),
    "a member twice": (twice, "'archive/data/0' .* is there twice"),
    "an encrypted member": (encrypted, "is encrypted"),
    "members that overlap": (overlapping, "shares bytes with another"),
    "a program before the zip": (lambda: b"PK\x03\x04" + bytes(100) + zip_of(good()), "others stand before it"),
    "a program behind the zip": (lambda: zip_of(good()) + PLANT.encode(), "does not end as one"),
    "a zip with a comment": (lambda: zip_of(good())[:-2] + b"\x05\0hello", "does not end as one"),
    "a zip cut short": (lambda: zip_of(good())[:-40], "it is truncated, or more follows"),
    "a directory of a gigabyte": (lying_directory, "with a directory of 1073741824 bytes"),
    "six thousand members": (
        lambda: zip_of(good(), *((f"archive/data/{i}", b"") for i in range(1, 6000))),
        "a zip of 6002 members",
    ),
    "two folders": (lambda: zip_of(good(), ("other/data/1", b"")), "holds 2 folders"),
    "a Python file inside": (lambda: zip_of(good(), ("archive/model.py", PLANT.encode())), "'archive/model.py', which"),
    "a name that ends early": (lambda: zip_of(good(), ("archive/data/1\0.py", b"x")), "no tensor uses|damaged|holds"),
    "big-endian numbers": (lambda: zip_of(good(), ("archive/byteorder", b"big")), "little-endian"),
    "a storage that nobody uses": (lambda: zip_of(good(), ("archive/data/1", b"x")), "that no tensor uses"),
    "a flipped bit in a storage": (flipped_storage, "the file is damaged .*CRC"),
    "a pickle of three megabytes": (lambda: zip_of(b"\x80\x02" + b"N" * 3_000_000 + b"."), "a pickle of 3000003 bytes"),
}

PICKLES = {
    "os.system": (pickled(text("w"), called("os", "system", "touch canary")), "would import 'os.system'"),
    "posix.system": (pickled(text("w"), called("posix", "system", "touch canary")), "would import 'posix.system'"),
    "eval": (pickled(text("w"), called("builtins", "eval", PLANT)), "would import 'builtins.eval'"),
    "exec of old": (pickled(text("w"), called("__builtin__", "exec", PLANT)), "would import '__builtin__.exec'"),
    "a chain of getattr": (
        pickled(text("w"), b"cbuiltins\ngetattr\n(" + called("builtins", "__import__", "os") + text("system") + b"tR"),
        "would import 'builtins.getattr'",
    ),
    "torch.hub": (pickled(text("w"), called("torch.hub", "load", "a/b", "c")), "would import 'torch.hub.load'"),
    "runpy": (pickled(text("w"), called("runpy", "run_path", "canary.py")), "would import 'runpy.run_path'"),
    "a dotted name": (
        pickled(text("w"), called("torch", "serialization.os.system", "touch canary")),
        "would import 'torch.serialization.os.system'",
    ),
    "an allowed name in escapes": (pickled(text("w"), b"ccollections\n\\x4frderedDict\n)R"), "a name is escaped"),
    "a wrong escape": (pickled(text("w"), b"ccollections\n\\OrderedDict\n)R"), "would import"),
    "a global from the stack": (
        pickled(text("w"), text("os"), text("system"), b"\x93", text("touch canary"), b"\x85R"),
        "the opcode STACK_GLOBAL",
    ),
    "INST": (pickled(text("w"), b"(" + text("touch canary") + b"ios\nsystem\n"), "would import 'os.system'"),
    "OBJ": (pickled(text("w"), b"(ctorch\nFloatStorage\n" + text("x") + b"o"), "the opcode OBJ"),
    "NEWOBJ": (pickled(text("w"), b"ctorch\nFloatStorage\n)\x81"), "the opcode NEWOBJ"),
    "an extension's number": (pickled(text("w"), b"\x82\x01"), "the opcode EXT1"),
    "a persistent name": (pickled(text("w"), b"Pos.system\n"), "the opcode PERSID"),
    "protocol 4": (lambda: zip_of(b"\x80\x04" + good()[2:]), "the opcode PROTO"),
    "bytes of another pickle": (pickled(text("w"), b"C\x04\x80\x02N."), "the opcode SHORT_BINBYTES"),
    "the state of a tensor": (pickled(text("w"), tensor() + b"}b"), "would set an object's state"),
    "the state of a class": (
        pickled(text("w"), b"ctorch\nFloatStorage\n}" + text("__reduce__") + text("x") + b"sb"),
        "would set an object's state",
    ),
    "a call of an allowed name": (pickled(text("w"), called("torch", "FloatStorage", "9")), "would call torch.FloatS"),
    "arguments of an OrderedDict": (
        pickled(text("w"), b"ccollections\nOrderedDict\n(" + b"]" + b"tR"),
        "the opcode EMPTY_LIST",
    ),
    "hooks of a tensor": (
        pickled(text("w"), tensor(hooks=b"}" + text("a") + called("collections", "OrderedDict")[:-2] + b"tRs")),
        "would call torch._utils._rebuild_tensor_v2 in an unknown way",
    ),
    "a malformed sparse tensor": (
        pickled(text("w"), b"ctorch._utils\n_rebuild_sparse_tensor\n)R"),
        "would import 'torch._utils._rebuild_sparse_tensor'",
    ),
    "a quantized tensor": (
        pickled(text("w"), b"ctorch._utils\n_rebuild_qtensor\n)R"),
        "would import 'torch._utils._rebuild_qtensor'",
    ),
    "a storage that claims more": (pickled(text("w"), tensor(data=storage(count=1 << 40))), "claims 1099511627776"),
    "a storage of another size": (pickled(text("w"), tensor(data=storage(kind="DoubleStorage"))), "of 8 bytes and has"),
    "a storage that is not there": (
        pickled(text("w"), tensor(data=storage("7"))),
        "the storage '7', which it does not",
    ),
    "a storage that climbs": (pickled(text("w"), tensor(data=storage("../data.pkl"))), r"the storage '\.\./data.pkl'"),
    "no storage": (pickled(text("w"), b"NQ"), "refers to something that is no storage"),
    "a storage of integers": (pickled(text("w"), tensor(data=storage(kind="IntStorage"))), "import 'torch.IntStorage'"),
    "a shape beyond its storage": (pickled(text("w"), tensor(shape=(5,))), "lies outside its storage of 4 numbers"),
    "a start beyond its storage": (pickled(text("w"), tensor(start=1 << 80)), "lies outside its storage"),
    "a tensor that grows": (
        pickled(text("w"), tensor(shape=(1 << 30, 4), strides=(0, 1))),
        "not side by side; call .contiguous",
    ),
    "a tensor of nine dimensions": (
        pickled(text("w"), tensor(shape=(1,) * 9, strides=(1,) * 9)),
        "not up to 8 counts",
    ),
    "a negative stride": (
        pickled(text("w"), tensor().replace(numbers((1,)) + b"\x89", b"(J\xff\xff\xff\xfft\x89")),
        "not up to 8 counts",
    ),
    "one storage for many": (
        pickled(*(part for i in range(100) for part in (text(f"w{i}"), tensor()))),
        "tensors of 1600 bytes share the 16 bytes",
    ),
    "the same name twice": (pickled(text("w"), tensor(), text("w"), tensor()), "the name 'w' twice"),
    "a name that is a number": (pickled(number(1), tensor()), "a int as a name"),
    "half an item": (pickled(text("w"), tensor(), text("v")), "malformed"),
    "items of a tensor": (pickled(text("w"), tensor() + text("a") + text("b") + b"s"), "items of no dictionary"),
    "what was never remembered": (pickled(text("w"), b"h\x09"), "malformed"),
    "an empty stack": (lambda: zip_of(b"\x80\x02000000."), "malformed|the opcode POP"),
    "no end": (lambda: zip_of(good()[:-1]), "malformed"),
    "something behind the end": (lambda: zip_of(good() + called("os", "system", "touch canary")), "goes on after its"),
    "a billion laughs": (pickled(text("w"), laughs(400)), "a tuple under 'w' beside its tensors"),
    "laughs as a shape": (
        pickled(text("w"), tensor().replace(numbers((4,)), laughs(400))),
        "not up to 8 counts",
    ),
    "a million opcodes": (pickled(text("w"), b"N0" * 900_000), "the opcode POP|more than 100000"),
    "a memo without end": (
        pickled(text("w"), b"N" + b"".join(b"r" + struct.pack("<I", i) for i in range(300_000))),
        "more than 100000 opcodes",
    ),
    "a long number": (pickled(text("w"), b"\x8b" + struct.pack("<I", 1 << 20) + b"\1" * (1 << 20)), "the opcode LONG4"),
    "a text longer than the file": (pickled(text("w"), b"X\xff\xff\xff\x7fabc"), "malformed"),
    "a list": (lambda: zip_of(b"\x80\x02)."), "holds a tuple where a state dict was expected"),
    "nothing": (lambda: zip_of(state()), "has 0 tensors"),
    "an optimizer beside the weights": (
        pickled(text("epoch"), number(3), text("w"), tensor()),
        "holds a int under 'epoch' beside its tensors",
    ),
    "a half surrogate as a name": (pickled(text("\ud800\u202e"), b"N"), r"under '\\ud800\\u202e' beside"),
    "a network other than it says": (lambda: zip_of(good()), "lacks tensor"),
}

# ---- other formats


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(TINY, "../../canary")
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.zeros(3))
    return buffer.getvalue()


def plain_zip(*names: str) -> Callable[[], bytes]:
    def made() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")
        return buffer.getvalue()

    return made


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (PLANT,)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 44754497\n"

FORMATS = {
    "an empty file": (lambda: b"", "is empty; send"),
    "a git-LFS pointer": (lambda: LFS, "a git-LFS pointer .* git lfs pull"),
    "a web page": (lambda: b"\n<!DOCTYPE html><html>sign in</html>", "a web page .* download the file itself"),
    "Python source": (lambda: PLANT.encode() * 40, "a text such as source code"),
    "source in another script": (lambda: "# чужой код\n".encode() * 100, "a text such as source code"),
    "a pickled object": (lambda: pickle.dumps(Planted()), "is a pickle, which may run code"),
    "a pickle of protocol 0": (lambda: pickle.dumps(Planted(), protocol=0), "a text such as source code"),
    "a file of torch before 1.6": (
        lambda: b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + pickle.dumps(Planted()),
        "before release 1.6.* manage.py pack",
    ),
    "TorchScript": (
        lambda: zip_of(good(), ("archive/code/__torch__.py", b""), ("archive/constants.pkl", b"\x80\x02).")),
        "a TorchScript program, which is code; send",
    ),
    "a program of torch.export": (
        plain_zip("net/archive_format", "net/models/model.json", "net/data/weights/weight_0"),
        r"torch.export \(.pt2\), which may run code .* send the weights alone",
    ),
    "a program of an older torch.export": (
        plain_zip("serialized_exported_program.json", "serialized_state_dict.pt", "version"),
        "torch.export",
    ),
    "a torch.package": (plain_zip("net/.data/extern_modules", "net/model.pkl"), "a torch.package archive"),
    "ONNX": (lambda: b"\x08\x0a\x12\x07pytorch\x1a\x052.13" + bytes(99), "is an ONNX model; load the weights into"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5 file, as Keras writes"),
    "Keras": (plain_zip("config.json", "metadata.json", "model.weights.h5"), "is a Keras model"),
    "TensorFlow": (lambda: b"\x08\x01\x12\xf4\x03" + bytes(99), "a TensorFlow SavedModel"),
    "TensorFlow Lite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), "a TensorFlow Lite model"),
    "a NumPy archive": (npz, r"a NumPy archive \(.npz\)"),
    "tar": (tar, "a tar archive; unpack it"),
    "gzip": (lambda: gzip.compress(TINY.read_bytes()), "compressed by gzip; unpack it"),
    "a zip around the file": (plain_zip("model.safetensors"), "a zip around a safetensors file; unpack it"),
    "a zip of photographs": (plain_zip("a.jpg"), "a zip archive, and not of torch.save"),
    "an empty zip": (plain_zip(), "a zip archive, and not of torch.save|does not end as one"),
    "a program for Linux": (lambda: b"\x7fELF" + bytes(99), "is a program"),
    "noise": (lambda: bytes(range(255, 100, -1)), "claims a header of"),
}
