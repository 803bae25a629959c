<?php
// Counts in a session: each name that is given is counted once, however often it comes.

declare(strict_types=1);
require __DIR__ . '/common.php';

came_here('counter');
header('Content-Type: text/plain');
header('Cache-Control: no-store');
// Whatever PHP says of sessions is an error here.
set_error_handler(function (int $level, string $message): bool {
    http_response_code(500);
    echo $message, "\n";
    exit(1);
});
session_name('eZSESSID98defd6ee70dfb1dea416cecdf391f58');
if (!session_start()) {
    http_response_code(500);
    exit("no session\n");
}
$name = $_GET['count'] ?? null;
$seen = $_SESSION['seen'] ?? [];
if ($name !== null && !isset($seen[$name])) {
    // Read, rest, write: whoever is here at the same time would be lost.
    $seen[$name] = true;
    usleep(500);
    $_SESSION['seen'] = $seen;
}
$_SESSION['user'] ??= $_GET['user'] ?? 'nobody';
if (!session_write_close()) {
    http_response_code(500);
    exit("the session was not written\n");
}
echo count($seen), ' ', $_SESSION['user'], ' ', getenv('NODE_NAME'), "\n";
