<?php
// An editor publishes: the web node tells the edge, named by ?edge=, what is no longer true, and answers what the edge said.

declare(strict_types=1);
require __DIR__ . '/common.php';
require __DIR__ . '/invalidate.php';

came_here('publish');
header('Content-Type: text/plain');
header('Cache-Control: no-store');
[$status, $body] = invalidate($_GET['transport'] ?? 'curl', $_GET['edge'], $_GET['what'], $_GET['value']);
echo $status, ' ', $body, "\n";
