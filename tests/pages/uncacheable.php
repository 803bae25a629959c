<?php
// A page for one visitor only.

declare(strict_types=1);
require __DIR__ . '/common.php';

came_here('uncacheable');
header('Content-Type: text/plain');
header('Cache-Control: private, no-cache, no-store');
echo 'uncacheable by ', node_name(), "\n";
