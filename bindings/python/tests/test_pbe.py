"""The installed wheel, beside PyTorch: python -m unittest discover bindings/python/tests"""

import _thread
import ast
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import numpy as np
import pbe
import torch
from PIL import Image
from torchvision.models import resnet18

CLASSES, SIDE = 3, 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OPTIONS = {"device": "cpu", "threads": 2}
SHORT = {**OPTIONS, "settings": ["batch=16", "initial_set.no_sign=0", "rounds.*.adversarial.epochs=1", "rounds.*.clean.epochs=1"]}


def batch(pixels):
    """As torchvision's ToTensor and Normalize feed it."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def make():
    """Noise in the colour of its class, and torchvision's ResNet-18, trained on it for a moment."""
    random = np.random.default_rng(0)
    labels = np.arange(48) % CLASSES
    pixels = random.integers(0, 120, (48, SIDE, SIDE, 3), dtype=np.uint8)
    pixels[np.arange(48), :, :, labels] += 100
    torch.manual_seed(0)
    net = resnet18(num_classes=CLASSES)
    optimizer = torch.optim.SGD(net.parameters(), 0.02, 0.9)
    for _ in range(12):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(batch(pixels)), torch.from_numpy(labels)).backward()
        optimizer.step()
    return net.eval(), pixels, labels


def arrays(net):
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.net, pixels, labels = make()
        cls.images = pbe.Images(pixels, labels, CLASSES)
        cls.model = pbe.load_model(arrays(cls.net), "imagenet")

    def near(self, net, model):
        """Logits of both, within 1e-3."""
        with torch.no_grad():
            expected = net(batch(self.images.pixels)).numpy()
        found = pbe.logits(model, self.images, **OPTIONS)
        self.assertEqual(found.shape, (48, CLASSES))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
        np.testing.assert_array_equal(pbe.predict(model, self.images, **OPTIONS), expected.argmax(1))

    def test_a_state_dict_goes_in_and_a_purified_one_comes_out(self):
        self.assertEqual((self.model.network, self.model.classes), ("resnet18", CLASSES))
        self.near(self.net, self.model)
        seen = []
        purified = pbe.purify(self.model, self.images, progress=lambda *step: seen.append(step), **SHORT)
        self.assertGreater(len(seen), 10)
        step, phase, done, total, loss = seen[-1]
        self.assertTrue(step >= 1 and phase and done <= total)
        self.assertTrue(any(isinstance(loss, float) for *_, loss in seen))
        state = purified.state_dict()
        self.assertEqual(state.keys(), self.net.state_dict().keys())
        net = resnet18(num_classes=CLASSES)
        net.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)
        self.assertFalse(torch.equal(net.fc.weight, self.net.fc.weight))
        self.near(net.eval(), purified)
        scores = pbe.score(self.model, purified, self.images, **OPTIONS)
        self.assertTrue(scores.shape == (48,) and (np.abs(scores) <= 1.001).all())

    def test_tensors_bytes_and_files_are_the_same_model(self):
        own = pbe.logits(self.model, self.images, **OPTIONS)
        with tempfile.TemporaryDirectory() as folder:
            saved, plain = pathlib.Path(folder, "model.safetensors"), pathlib.Path(folder, "plain.pt")
            self.model.save(saved)
            torch.save(self.net.state_dict(), plain)
            half = {name: array.astype(np.float64) for name, array in arrays(self.net).items()}
            sources = [saved, str(saved), self.model.to_bytes(), plain, self.net.state_dict(), half]
            for source in sources:
                model = pbe.load_model(source, "imagenet")
                np.testing.assert_array_equal(pbe.logits(model, self.images, **OPTIONS), own)

    def test_a_normalisation_is_found(self):
        model = pbe.load_model(arrays(self.net))
        self.assertIsNone(model.normalisation)
        with self.assertRaisesRegex(ValueError, "normalisation"):
            pbe.predict(model, self.images, **OPTIONS)
        model.fit(self.images, **OPTIONS)
        self.assertIn("/", model.normalisation)

    def test_images_are_attacked_and_inspected(self):
        examples = pbe.attack(self.model, self.images, 8, **OPTIONS)
        moved = np.abs(examples.pixels.astype(int) - self.images.pixels).max()
        self.assertTrue(1 <= moved <= 9, moved)
        np.testing.assert_array_equal(examples.labels, self.images.labels)
        found = pbe.inspect(self.model, self.images, **OPTIONS)
        self.assertIn(found.verdict, ["infected", "no_sign", "undecided"])
        self.assertTrue(0 < found.p_value <= 1 and found.deviation.shape == (48,))
        self.assertTrue(len(found.suspects) <= 48 and isinstance(found.targets, list))

    def test_exceptions_and_ctrl_c_end_a_run(self):
        def enough(*_):
            raise LookupError("enough")

        with self.assertRaisesRegex(LookupError, "enough"):
            pbe.purify(self.model, self.images, progress=enough, **SHORT)
        started = time.monotonic()
        threading.Timer(1, _thread.interrupt_main).start()
        with self.assertRaises(KeyboardInterrupt):
            pbe.purify(self.model, self.images, **OPTIONS, settings=["rounds.*.clean.epochs=100000"])
        self.assertLess(time.monotonic() - started, 60)

    def test_other_threads_run_meanwhile(self):
        beats, done = [], threading.Event()

        def beat():
            while not done.wait(0.01):
                beats.append(time.monotonic())

        thread = threading.Thread(target=beat)
        thread.start()
        pbe.attack(self.model, self.images, 8, **OPTIONS)
        done.set()
        thread.join()
        self.assertGreater(len(beats), 5)

    def test_what_is_wrong_is_said(self):
        pixels, labels = self.images.pixels, self.images.labels
        headless = {name: array for name, array in arrays(self.net).items() if name != "fc.bias"}
        for kind, words, call in [
            (ValueError, "no/such.pt", lambda: pbe.load_model("no/such.pt")),
            (ValueError, "HTML", lambda: pbe.load_model(b"<html>")),
            (ValueError, "none of the networks", lambda: pbe.load_model({})),
            (ValueError, "missing: fc.bias", lambda: pbe.load_model(headless)),
            (ValueError, "nonsense", lambda: pbe.load_model(arrays(self.net), "nonsense")),
            (TypeError, "", lambda: pbe.load_model(3)),
            (ValueError, "48 images, but 47 labels", lambda: pbe.Images(pixels, labels[1:], CLASSES)),
            (ValueError, "label 2 of 2 classes", lambda: pbe.Images(pixels, labels, 2)),
            (OverflowError, "", lambda: pbe.Images(pixels, labels.astype(int) - 1, CLASSES)),
            (TypeError, "", lambda: pbe.Images(pixels.astype(np.float32), labels, CLASSES)),
            (ValueError, "images have 4", lambda: pbe.predict(self.model, pbe.Images(pixels, labels, 4))),
            (TypeError, "'devise'", lambda: pbe.predict(self.model, self.images, devise="cpu")),
            (ValueError, "device=gpu", lambda: pbe.predict(self.model, self.images, device="gpu")),
            (ValueError, "nonsense", lambda: pbe.purify(self.model, self.images, settings=["nonsense=1"])),
            (RuntimeError, "no/such", lambda: self.model.save("no/such/m.safetensors")),
        ]:
            with self.subTest(words), self.assertRaisesRegex(kind, words):
                call()

    def test_the_example_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            source, output = pathlib.Path(folder, "in.pth"), pathlib.Path(folder, "out.pth")
            torch.save(self.net.state_dict(), source)
            data = pathlib.Path(folder, "data")
            for index, (pixels, label) in enumerate(zip(self.images.pixels, self.images.labels)):
                place = data / f"class{label}"
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place / f"{index}.png")
            example = pathlib.Path(__file__).with_name("example.py")
            command = [sys.executable, example, source, data, output]
            said = subprocess.run(command, check=True, capture_output=True, text=True)
            self.assertIn("suspects, targets", said.stdout)
            resnet18(num_classes=CLASSES).load_state_dict(torch.load(output), strict=True)

    def test_the_stub_has_what_the_module_has(self):
        def names(place):
            return {name for name in dir(place) if not name.startswith("_")}

        stub = ast.parse((pathlib.Path(pbe.__file__).parent / "__init__.pyi").read_text())
        declared = {node.name: node for node in stub.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        del declared["Options"]
        self.assertEqual(declared.keys(), names(pbe) - {"pbe"})
        for name, node in declared.items():
            if isinstance(node, ast.ClassDef):
                methods = {method.name for method in node.body} - {"__init__", "__len__"}
                self.assertEqual(methods, names(getattr(pbe, name)), name)
        self.assertTrue((pathlib.Path(pbe.__file__).parent / "py.typed").exists())


if __name__ == "__main__":
    unittest.main()
