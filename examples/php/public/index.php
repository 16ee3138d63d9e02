<?php

require __DIR__ . '/../vendor/autoload.php';

header('Content-Type: text/plain');
echo Hello\Greeting::of($_GET['name'] ?? 'you'), " This is version 1.\n";
