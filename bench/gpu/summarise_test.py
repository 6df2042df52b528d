#!/usr/bin/env python3
"""Tests of the tables, and of the names of cells, which need no GPU."""

import importlib.machinery
import importlib.util
import os
import sys
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import cells  # noqa: E402

loader = importlib.machinery.SourceFileLoader("summarise", os.path.join(HERE, "summarise"))
summarise = importlib.util.module_from_spec(importlib.util.spec_from_loader("summarise", loader))
loader.exec_module(summarise)

LINE = {
    "cell": "8x8192x32x8x128/independent",
    "gpu": "a GPU",
    "after": {"clocks.sm": "1980 MHz"},
    "failed": {"flash/contiguous": "RuntimeError: no"},
    "variants": {
        "read/contiguous": {"median": 60.0},
        "cudnn/contiguous": {"median": 70.0},
        "flashinfer_fa2/page16": {"median": 80.0},
        "dense/page16": {"median": 72.0},
        "record/page16": {"median": 80.0},
        "sift/page16/0.875": {"median": 56.0, "q1": 55.0, "q3": 57.0, "sparsity": 0.875, "union": 0.25},
        "sift_at/page16/0.25/0.5": {"median": 50.0},
        "estimated/page16/0.25/0.5": {"median": 40.0, "q1": 39.0, "q3": 41.0, "tau": 0.977,
                                      "sparsity": 0.977, "union": 0.09, "candidates": 0.25,
                                      "error": 0.019},
    },
}


class Tables(unittest.TestCase):
    def test_dense_is_compared_with_the_same_layout_and_with_all(self):
        (row,) = summarise.dense_rows(LINE)
        self.assertEqual(row[3:], ["80.0 (flashinfer_fa2)", "70.0 (cudnn/contiguous)", "72.0",
                                   "1.11", "0.97", "1.20"])

    def test_sift_is_measured_by_its_ceiling(self):
        (row,) = summarise.sift_rows(LINE)
        self.assertEqual(row[6:11], ["1.25", "1.29", "1.60", "78%", "0.93"])

    def test_estimates_are_compared_with_the_best_peer_and_exact_sifting(self):
        (row,) = summarise.estimated_rows(LINE)
        self.assertEqual(row[1:], ["0.25", "0.5", "0.9770", "0.250", "0.090", "70.0 (cudnn/contiguous)",
                                   "50.0", "40.0 (39.0–41.0)", "1.75", "1.25", "3.07", "57%", "0.019"])

    def test_estimates_need_no_peer_and_no_exact_sifting(self):
        result = LINE["variants"]["estimated/page16/0.25/0.5"]
        alone = {**LINE, "variants": {"estimated/page16/0.25/0.5": result}}
        (row,) = summarise.estimated_rows(alone)
        self.assertEqual((row[6:8], row[9:11]), (["–", "–"], ["–", "–"]))
        self.assertIn("### Estimated scores", summarise.summarise([alone]))

    def test_a_warm_up_is_paid_for_by_what_sifted_steps_save(self):
        self.assertEqual(summarise.paid_after(72.0, 80.0, 56.0), "64")
        self.assertEqual(summarise.paid_after(72.0, 80.0, 72.0), "never")

    def test_what_failed_is_told(self):
        self.assertIn("- flash/contiguous: RuntimeError: no (8x8192x32x8x128/independent)",
                      summarise.summarise([LINE]))


class Cells(unittest.TestCase):
    def test_two_numbers_are_llama_8b(self):
        (cell,) = cells.parse_cells("8x8192", ["correlated"])
        self.assertEqual(str(cell), "8x8192x32x8x128/correlated")
        self.assertEqual(cell.cache_bytes, 268435456)

    def test_other_forms_are_refused(self):
        with self.assertRaisesRegex(ValueError, "expected BATCHxCONTEXT"):
            cells.parse_cells("8x8192x32", ["independent"])


if __name__ == "__main__":
    unittest.main()
