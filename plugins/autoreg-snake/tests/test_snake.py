import torch
from autoreg_snake import Snake

from autoreg.testing import check_activation


def test_snake_does_what_autoreg_asks_of_an_activation():
    check_activation(Snake)


def test_a_full_wave_later_it_is_higher_by_the_length_of_the_wave():
    snake, x, length = Snake(), torch.linspace(-3, 3, 50), torch.pi / 2
    snake.frequency.data.fill_(2.0)
    assert torch.allclose(snake(x + length), snake(x) + length, atol=1e-5)
