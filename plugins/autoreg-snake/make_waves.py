import numpy as np
import pandas as pd

draw = np.random.default_rng(0)
waves = pd.DataFrame(draw.uniform(-3, 3, size=(600, 3)), columns=["a", "b", "c"])
waves["y"] = np.sin(3 * waves["a"]) + np.sin(waves["a"] + 2 * waves["b"]) + 0.2 * waves["c"]
waves["y"] += draw.normal(0, 0.1, size=600)
waves.round(3).to_csv("waves.csv", index=False)
