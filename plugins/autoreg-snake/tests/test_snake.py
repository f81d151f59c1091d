import torch
from autoreg.testing import check_activation

from autoreg_snake import Snake


def test_snake_does_what_autoreg_asks_of_an_activation():
    check_activation(Snake)


def test_the_wave_is_half_a_period_of_the_sine_long():
    snake, x = Snake(), torch.linspace(-3, 3, 50)
    wave = snake(x + torch.pi / snake.frequency) - snake(x)
    assert torch.allclose(wave, torch.full_like(x, torch.pi))
