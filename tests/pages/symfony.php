<?php
// A session and a cache pool as Symfony's own classes keep them in memcached, where `session.save_path` says it is.

declare(strict_types=1);
require __DIR__ . '/common.php';
require 'Symfony/Component/HttpFoundation/autoload.php';
require 'Symfony/Component/Cache/autoload.php';

use Symfony\Component\Cache\Adapter\MemcachedAdapter;
use Symfony\Component\Cache\Adapter\TagAwareAdapter;
use Symfony\Component\HttpFoundation\Session\Session;
use Symfony\Component\HttpFoundation\Session\Storage\Handler\MemcachedSessionHandler;
use Symfony\Component\HttpFoundation\Session\Storage\NativeSessionStorage;

came_here('symfony');
header('Content-Type: text/plain');
header('Cache-Control: no-store');
set_error_handler(function (int $level, string $message): bool {
    // What Symfony itself calls deprecated is none of ours.
    if ($level & (E_DEPRECATED | E_USER_DEPRECATED)) {
        return true;
    }
    http_response_code(500);
    echo $message, "\n";
    exit(1);
});

$address = ini_get('session.save_path');

/** One after another: what was done, and what came of it. */
function session(string $what, string $address): string
{
    $memcached = new Memcached();
    [$host, $port] = explode(':', $address);
    $memcached->addServer($host, (int) $port);
    $memcached->setOption(Memcached::OPT_BINARY_PROTOCOL, true);
    $handler = new MemcachedSessionHandler($memcached, ['prefix' => 'sf5', 'ttl' => 3600]);
    $session = new Session(new NativeSessionStorage(['name' => 'eZSESSID'], $handler));
    $session->start();
    switch ($what) {
        case 'login':
            // As the firewall does it: a new id, so that nobody's guess of the old one is worth anything.
            $session->migrate(true);
            $session->set('user', 'editor');
            break;
        case 'count':
            $session->set('count', $session->get('count', 0) + 1);
            break;
        case 'logout':
            $session->invalidate();
            break;
    }
    $text = $session->get('user', 'nobody') . ' ' . $session->get('count', 0);
    $session->save();
    return $text;
}

function pool(string $what, string $address): string
{
    $client = MemcachedAdapter::createConnection("memcached://$address");
    $inner = new MemcachedAdapter($client, 'ezp', 300);
    $pool = new TagAwareAdapter($inner, $inner);
    $keys = array_map(fn (int $number): string => "content-$number", range(1, 100));
    switch ($what) {
        case 'fill':
            foreach ($keys as $number => $key) {
                $item = $pool->getItem($key);
                $item->set(['title' => "Title $number", 'text' => str_repeat("é$number ", 200)]);
                $item->tag(['all', $number % 2 ? 'odd' : 'even']);
                $pool->saveDeferred($item);
            }
            if (!$pool->commit()) {
                return 'not committed';
            }
            break;
        case 'drop':
            $pool->invalidateTags(['odd']);
            break;
        case 'delete':
            $pool->deleteItems(['content-1', 'content-3']);
            break;
        case 'clear':
            $pool->clear();
            break;
    }
    $found = 0;
    foreach ($pool->getItems($keys) as $key => $item) {
        if ($item->isHit()) {
            $number = (int) substr($key, 8) - 1;
            if ($item->get() !== ['title' => "Title $number", 'text' => str_repeat("é$number ", 200)]) {
                return "$key is not what it was";
            }
            ++$found;
        }
    }
    return "$found of 100";
}

echo isset($_GET['pool']) ? pool($_GET['pool'], $address) : session($_GET['session'] ?? '', $address), "\n";
