<?php
// A page with a session: counts the visits of one visitor.

declare(strict_types=1);
require __DIR__ . '/common.php';

came_here('session');
session_name('eZSESSID98defd6ee70dfb1dea416cecdf391f58');
session_start();
$_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
header('Content-Type: text/plain');
echo 'visit ', $_SESSION['visits'], "\n";
