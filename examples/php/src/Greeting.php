<?php

namespace Hello;

final class Greeting
{
    public static function of(string $name): string
    {
        return "Hello from PHP, $name.";
    }
}
